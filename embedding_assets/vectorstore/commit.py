"""The commit log: which snapshot is the current one, and how the next one becomes it.

A commit is the creation of `log/{generation}.json`, put-if-absent: of two writers exactly one wins, and the loser
starts again from the new head. There is no lock, hence none that expires. The pointer only follows the log.

A damaged entry occupies its generation: readers skip it, and the next commit takes the generation after it. An entry
without a version says that nothing before it counts any more: what is current after it is made from all deltas.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from embedding_assets.errors import CorruptedError, ObjectMissingError, StoreError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import seal, unseal
from embedding_assets.vectorstore.manifest import Manifest, parse_manifest
from embedding_assets.vectorstore.misplaced import make_room

FORMAT = 4  # 1 had no marks, 2 was not sealed, 3 did not say what is in the added deltas
_SEALED_SINCE = 3
_KIND = "commit"
# An entry so far beyond the one before it is no commit of ours: to go on from it would leave the log behind.
_WIDEST_GAP = 1_000
_LAST = 9_000_000_000  # a generation has ten digits
_ENTRY = re.compile(r"(\d{10})\.json")


@dataclass(frozen=True)
class Added:
    """What is in a delta that a commit added: where the delta is gone, the log still tells what it held.

    Attributes:
        id, day: of the delta.
        records: how many it holds.
        batches: (batch id, landing id) of the batches in it; none where it was made of legacy data.
    """

    id: str
    day: str
    records: int
    batches: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Commit:
    """One entry of the log.

    Attributes:
        generation: its place, from 1.
        version: the snapshot that it makes current; None where it only ends what was before it. It may be an older
            one than the entry before has: that is how a version is rolled back to.
        parent: the version that was current before; None for the first.
        count, digest: of the snapshot, as in its manifest.
        added_deltas: deltas that this snapshot has and its parent lacks.
        manifest_sha256: of the snapshot's manifest, in hexadecimal.
        committed_at: ISO 8601, UTC.
        run_id: the run that committed it.
        marked: whether every committed delta that this version lacks has a mark (see `marks`).
        contents: what is in the added deltas; empty in entries of earlier versions.
    """

    generation: int
    version: str | None
    parent: str | None = None
    count: int = 0
    digest: str = ""
    added_deltas: tuple[str, ...] = ()
    manifest_sha256: str = ""
    committed_at: str = ""
    run_id: str = ""
    marked: bool = False
    format: int = FORMAT
    contents: tuple[Added, ...] = ()


@dataclass(frozen=True)
class LogEnd:
    """Where the log ends.

    Attributes:
        generation: the last one that is taken, be its entry damaged or not; 0 where there is no log.
        commit: the newest entry that can be read; None where there is none.
        pointed: the version that the pointer names; empty where it names none of ours, or is gone.
    """

    generation: int
    commit: Commit | None
    pointed: str = ""

    @property
    def head(self) -> Commit | None:
        """The commit of the current snapshot; None where there is none, or none any more."""
        return self.commit if self.commit and self.commit.version is not None else None

    @property
    def marked(self) -> bool:
        """Whether every committed delta that the current snapshot lacks has a mark."""
        return self.head is not None and self.head.marked and not self.lost

    @property
    def lost(self) -> bool:
        """Whether entries after the newest readable one are lost: damaged, or the pointer names a later version."""
        newest = self.commit.generation if self.commit else 0
        return max(self.generation, layout.generation_of(self.pointed) or 0) > newest


def log_end(store: ObjectStore, collection: str) -> LogEnd:
    """The end of the log: one read of the pointer, one listing from where it points, one read of the last entry.

    The pointer only tells where to start looking, so that one that fell behind, names nothing or holds garbage
    changes nothing; nor does a gap in the log.
    """
    named = _pointer_text(store, collection) or ""
    pointed = layout.generation_of(named)
    taken = _generations(store, collection, pointed) if pointed else []
    commit = _newest(store, collection, taken)
    if commit is None:
        taken = _generations(store, collection)
        commit = _newest(store, collection, taken)
    return LogEnd(taken[-1] if taken else 0, commit, named if pointed else "")


def head(store: ObjectStore, collection: str) -> Commit | None:
    """The commit of the current snapshot; None where there is none."""
    return log_end(store, collection).head


def history(store: ObjectStore, collection: str, versions: Iterable[str] | None = None) -> Iterator[Commit]:
    """The commits that count, newest first: until one without a version, each version once, damaged entries skipped.

    Args:
        store, collection: whose.
        versions: only commits of these, so that what is older than all of them is not looked at.
    """
    wanted = None if versions is None else set(versions)
    made = [generation for version in wanted or () if (generation := layout.generation_of(version)) is not None]
    if wanted is not None and not made:
        return
    seen: set[str] = set()
    for generation in reversed(_generations(store, collection, min(made, default=1))):
        commit = load_commit(store, collection, generation)
        if commit is None:
            continue
        if commit.version is None:
            return
        if commit.version not in seen and (wanted is None or commit.version in wanted):
            seen.add(commit.version)
            yield commit


def contents_of(store: ObjectStore, collection: str, deltas: Iterable[str]) -> dict[str, Added]:
    """What is in these deltas, by id, as the commits that added them say; reads the log backwards until all are found.

    Those of which no readable entry says it are left out.
    """
    found: dict[str, Added] = {}
    wanted = set(deltas)
    for generation in reversed(_generations(store, collection)):
        if not wanted:
            break
        commit = load_commit(store, collection, generation)
        some = {one.id: one for one in commit.contents if one.id in wanted} if commit else {}
        found |= some
        wanted -= set(some)
    return found


def try_commit(
    store: ObjectStore,
    manifest: Manifest,
    added: Sequence[Manifest],
    generation: int | None = None,
    run_id: str = "",
    *,
    marked: bool = False,
) -> bool:
    """Make a published snapshot the current one, if its generation is still free.

    Args:
        store: where it is.
        manifest: the snapshot's.
        added: the manifests of the deltas that it has and its parent lacks.
        generation: another than its own, for a version that is rolled back to.
        run_id: who does it, if not who made the snapshot.
        marked: whether it was made from the version before it, or from all deltas.

    Returns:
        False where another writer took the generation; then start again from the new head.
    """
    taken = generation or manifest.generation
    assert taken is not None  # noqa: S101  (every snapshot has one)
    return _append(
        store,
        manifest.collection,
        Commit(
            generation=taken,
            version=manifest.id,
            parent=manifest.parent,
            count=manifest.count,
            digest=manifest.digest,
            added_deltas=tuple(delta.id for delta in added),
            manifest_sha256=hashlib.sha256(manifest.to_bytes()).hexdigest(),
            committed_at=layout.now().isoformat(),
            run_id=run_id or manifest.run_id,
            marked=marked,
            contents=tuple(
                Added(d.id, str(d.day), d.count, tuple((e.batch_id, e.landing_id) for e in d.batches)) for d in added
            ),
        ),
    )


def try_reset(store: ObjectStore, collection: str, generation: int, run_id: str) -> bool:
    """End what was before this generation, if it is still free: the next snapshot is made from all deltas."""
    return _append(store, collection, Commit(generation, None, committed_at=layout.now().isoformat(), run_id=run_id))


def repair_pointer(store: ObjectStore, collection: str) -> Commit | None:
    """Point the pointer to the head of the log, if it does not; returns the head.

    A slow writer may put an older version over a newer one: so it is looked at again after it was written.
    """
    while True:
        end = log_end(store, collection)
        text = _pointer_text(store, collection)
        if end.head is None:
            # A pointer without any log is somebody else's, from before there was one.
            if end.commit and text is not None:
                store.delete([layout.pointer(collection)])
                continue
            return None
        if text == end.head.version:
            return end.head
        try:
            store.replace(layout.pointer(collection), str(end.head.version).encode())
        except StoreError:
            if not make_room(store, collection, layout.pointer(collection)):
                raise


def pointer_is_behind(store: ObjectStore, collection: str, end: LogEnd) -> bool:
    """Whether the pointer names another version than the log: its writer died between the two."""
    return end.head is not None and _pointer_text(store, collection) != end.head.version


def pointed_generation(store: ObjectStore, collection: str) -> int | None:
    """The generation of the version that the pointer names; None where it names none of ours, or is gone."""
    text = _pointer_text(store, collection)
    return layout.generation_of(text) if text else None


_MADE_AGAIN = "`embedding-assets repair` makes it again from the deltas."


def load_snapshot(store: ObjectStore, collection: str, commit: Commit) -> Manifest:
    """The manifest of a committed snapshot, or of one whose commit is lost, which then names no hash.

    Raises:
        CorruptedError: it is gone, or is not the one that was committed.
    """
    key = f"{layout.snapshots(collection, commit.version)}/{layout.MANIFEST}"
    subject = f"snapshot {commit.version} of {collection}"

    def parse(data: bytes) -> Manifest:
        if commit.manifest_sha256 and hashlib.sha256(data).hexdigest() != commit.manifest_sha256:
            raise CorruptedError(subject, "its manifest is not the committed one", _MADE_AGAIN)
        return parse_manifest(data, key)

    try:
        return store.read(key, parse)
    except ObjectMissingError:
        raise CorruptedError(subject, "its manifest is gone", _MADE_AGAIN) from None


def load_commit(store: ObjectStore, collection: str, generation: int) -> Commit | None:
    """One entry of the log; None where there is none, or none that can be understood.

    Raises:
        ConfigurationError: a newer version of this package wrote it.
    """
    key = layout.commit_log(collection, generation)
    try:
        return store.read(key, lambda data: _parse_commit(data, key, generation))
    except (CorruptedError, ObjectMissingError):
        return None


def _parse_commit(data: bytes, key: str, generation: int) -> Commit:
    raw = unseal(_KIND, key, data, newest=FORMAT, sealed_since=_SEALED_SINCE)
    try:
        contents = tuple(
            Added(**{**one, "batches": tuple((str(batch), str(landing)) for batch, landing in one["batches"])})
            for one in raw.get("contents", ())
        )
        commit = Commit(**{**raw, "added_deltas": tuple(raw.get("added_deltas", ())), "contents": contents})
    except (TypeError, ValueError, KeyError) as error:
        raise CorruptedError(key, f"the commit is damaged ({error})", "Run `embedding-assets check`.") from error
    if not _possible(commit, generation):
        raise CorruptedError(key, "the commit says what cannot be", "Run `embedding-assets check`.")
    return commit


def _possible(commit: Commit, generation: int) -> bool:
    if commit.generation != generation:
        return False
    version: Any = commit.version
    made = layout.generation_of(version) if isinstance(version, str) else None
    try:
        datetime.fromisoformat(commit.committed_at)
    except (TypeError, ValueError):
        return version is None
    return version is None or (made is not None and made <= generation and len(str(commit.manifest_sha256)) == 64)


def _append(store: ObjectStore, collection: str, commit: Commit) -> bool:
    key = layout.commit_log(collection, commit.generation)
    try:
        store.put_new(key, seal(_KIND, key, asdict(commit)))
    except ObjectExistsError:
        return False
    return True


def _generations(store: ObjectStore, collection: str, since: int = 1) -> list[int]:
    """The generations from `since` on that have an entry, damaged or not, ascending.

    Entries behind a gap that no series of commits leaves are strangers: they count for nothing.
    """
    folder = layout.commit_log(collection)
    after = layout.commit_log(collection, since - 1) if since > 1 else None
    names = [item.key.removeprefix(f"{folder}/") for item in store.walk(folder, after=after)]
    taken: list[int] = []
    for generation in (int(match.group(1)) for name in names if (match := _ENTRY.fullmatch(name))):
        if generation - (taken[-1] if taken else since - 1) > _WIDEST_GAP and (taken or since > 1):
            break
        if generation <= _LAST:
            taken.append(generation)
    # A listing may lag: what is after its last entry is asked for by its key.
    while store.exists(layout.commit_log(collection, following := taken[-1] + 1 if taken else since)):
        taken.append(following)
    return taken


def _newest(store: ObjectStore, collection: str, generations: list[int]) -> Commit | None:
    for generation in reversed(generations):
        commit = load_commit(store, collection, generation)
        if commit is not None:
            return commit
    return None


def _pointer_text(store: ObjectStore, collection: str) -> str | None:
    try:
        return store.get(layout.pointer(collection)).decode(errors="replace").strip()
    except ObjectMissingError:
        return None
