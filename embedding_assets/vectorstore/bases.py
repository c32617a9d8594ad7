"""What a compaction starts from, and what a reader falls back on: the newest snapshot that is whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from embedding_assets.errors import CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import Commit, LogEnd, history, load_snapshot
from embedding_assets.vectorstore.manifest import Manifest


@dataclass(frozen=True)
class Base:
    """A version that may be started from: its commit, and its manifest or what is wrong with that."""

    commit: Commit
    manifest: Manifest | None
    problem: str = ""

    @property
    def version(self) -> str:
        """The snapshot's version."""
        return str(self.commit.version)

    @property
    def proved(self) -> bool:
        """Whether its manifest is the one that was written after its proof: the log names that one's SHA-256, and the
        manifest that of each file. Where the entry of the log is lost, nothing but the records themselves tells."""
        return self.manifest is not None and bool(self.commit.manifest_sha256)


def bases(store: ObjectStore, collection: str, end: LogEnd) -> Iterator[Base]:
    """The versions that count, newest first: the current one, and only if more are asked for, those before it.

    Versions whose entry of the log is lost come first: each is whole, and whatever it lacks is in the deltas. Older
    versions that are gone altogether were pruned; they are left out.
    """
    if end.lost:
        for version in lost_versions(store, collection, end):
            yield _base(store, collection, Commit(layout.generation_of(version) or 0, version))
    if end.head is not None:
        yield _base(store, collection, end.head)
    if end.commit is None:
        return
    for commit in history(store, collection, set(store.folders(layout.snapshots(collection)))):
        if end.head is None or commit.version != end.head.version:
            yield _base(store, collection, commit)


def lost_versions(store: ObjectStore, collection: str, end: LogEnd) -> list[str]:
    """The versions that were committed by entries of the log that are lost, the newest first.

    These are later than the newest readable entry, and no later than the log's end or the version that the pointer
    names, which was committed before it was pointed to. A still later one may be about to be committed.
    """
    there = {version: layout.generation_of(version) or 0 for version in store.folders(layout.snapshots(collection))}
    first = end.commit.generation if end.commit else 0
    last = end.generation
    # Where nothing of the log is left, the pointer tells where it ended, though its version may be gone.
    if end.pointed in there or end.commit is None:
        last = max(last, layout.generation_of(end.pointed) or 0)
    return [
        version
        for version, generation in sorted(there.items(), reverse=True)
        if first < generation <= last and store.exists(f"{layout.snapshots(collection, version)}/{layout.MANIFEST}")
    ]


def lost_entries(store: ObjectStore, collection: str, end: LogEnd) -> list[str]:
    """What is lost at the end of the log together with its version, so that only something older is left."""
    if not end.lost or lost_versions(store, collection, end):
        return []
    if end.generation > (end.commit.generation if end.commit else 0):
        return [f"the commit {layout.commit_log(collection, end.generation)} cannot be read"]
    return [f"the pointer names {end.pointed}, which is not in the log"]


def _base(store: ObjectStore, collection: str, commit: Commit) -> Base:
    try:
        return Base(commit, load_snapshot(store, collection, commit))
    except CorruptedError as error:
        return Base(commit, None, error.reason)
