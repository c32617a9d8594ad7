"""What a compaction starts from, and what a reader falls back on: the newest snapshot that is whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from embedding_assets.errors import CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import Commit, LogEnd, history, load_snapshot, pointed_generation
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


def bases(store: ObjectStore, collection: str, end: LogEnd) -> Iterator[Base]:
    """The versions that count, newest first: the current one, and only if more are asked for, those before it.

    Older versions that are gone altogether were pruned; they are left out. Where the whole log is lost, the pointer
    still says that there was one: then the versions up to the one that it names take the log's place. Each is whole,
    and whatever it lacks is in the deltas.
    """
    if end.head is not None:
        yield _base(store, collection, end.head)
    there = set(store.folders(layout.snapshots(collection)))
    if end.commit is None:
        last = pointed_generation(store, collection) or 0
        for version in sorted(there, reverse=True):
            generation = layout.generation_of(version)
            # A later one may be about to be committed, to a log that was never there before.
            if (
                generation is not None
                and generation <= last
                and store.exists(f"{layout.snapshots(collection, version)}/{layout.MANIFEST}")
            ):
                yield _base(store, collection, Commit(generation, version))
        return
    for commit in history(store, collection, there):
        if end.head is None or commit.version != end.head.version:
            yield _base(store, collection, commit)


def _base(store: ObjectStore, collection: str, commit: Commit) -> Base:
    try:
        return Base(commit, load_snapshot(store, collection, commit))
    except CorruptedError as error:
        return Base(commit, None, error.reason)
