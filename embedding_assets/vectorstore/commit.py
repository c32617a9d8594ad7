"""The commit log: which snapshot is the current one, and how the next one becomes it.

A commit is the creation of `log/{generation}.json`, put-if-absent: of two writers exactly one wins, and the loser
starts again from the new head. There is no lock, hence none that expires. The pointer only follows the log.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

import orjson

from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.vectorstore.manifest import FORMAT, Manifest, parse_manifest


@dataclass(frozen=True)
class Commit:
    """One entry of the log.

    Attributes:
        generation: its place, from 1.
        version: the snapshot that it makes current.
        parent: the version that was current before; None for the first.
        count, digest: of the snapshot, as in its manifest.
        added_deltas: deltas that this snapshot has and its parent lacks.
        manifest_sha256: of the snapshot's manifest, in hexadecimal.
        committed_at: ISO 8601, UTC.
        run_id: the run that committed it.
    """

    generation: int
    version: str
    parent: str | None
    count: int
    digest: str
    added_deltas: tuple[str, ...]
    manifest_sha256: str
    committed_at: str
    run_id: str
    format: int = FORMAT


def head(store: ObjectStore, collection: str) -> Commit | None:
    """The newest commit; None where there is none.

    The pointer only tells where to start looking: from its generation the log is followed to its end, so that a
    pointer that fell behind, names nothing or holds garbage changes nothing.
    """
    generation = _pointed_generation(store, collection)
    commit = _load(store, collection, generation) if generation else None
    if commit is None:
        logged = list(store.walk(layout.commit_log(collection)))
        if not logged:
            return None
        commit = _load(store, collection, int(logged[-1].key.rsplit("/", 1)[-1].removesuffix(".json")))
    while commit is not None:
        following = _load(store, collection, commit.generation + 1)
        if following is None:
            return commit
        commit = following
    return None


def try_commit(store: ObjectStore, manifest: Manifest, added_deltas: tuple[str, ...]) -> bool:
    """Make a published snapshot the current one, if its generation is still free.

    Returns:
        False where another writer took the generation; then start again from the new head.
    """
    assert manifest.generation is not None  # noqa: S101  (every snapshot has one)
    commit = Commit(
        generation=manifest.generation,
        version=manifest.id,
        parent=manifest.parent,
        count=manifest.count,
        digest=manifest.digest,
        added_deltas=added_deltas,
        manifest_sha256=hashlib.sha256(manifest.to_bytes()).hexdigest(),
        committed_at=layout.now().isoformat(),
        run_id=manifest.run_id,
    )
    try:
        store.put_new(
            layout.commit_log(manifest.collection, manifest.generation),
            orjson.dumps(asdict(commit), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        )
    except ObjectExistsError:
        return False
    return True


def repair_pointer(store: ObjectStore, collection: str) -> Commit | None:
    """Point the pointer to the head of the log, if it does not; returns the head.

    A slow writer may put an older version over a newer one: so it is looked at again after it was written.
    """
    while True:
        current = head(store, collection)
        if current is None or _pointer_text(store, collection) == current.version:
            return current
        store.replace(layout.pointer(collection), current.version.encode())


def load_snapshot(store: ObjectStore, collection: str, commit: Commit) -> Manifest:
    """The manifest of a committed snapshot.

    Raises:
        CorruptedError: it is gone, or is not the one that was committed.
    """
    key = f"{layout.snapshots(collection, commit.version)}/{layout.MANIFEST}"
    subject = f"snapshot {commit.version} of {collection}"
    try:
        data = store.get(key)
    except ObjectMissingError:
        raise CorruptedError(subject, "its manifest is gone", "Rebuild it from the deltas.") from None
    if hashlib.sha256(data).hexdigest() != commit.manifest_sha256:
        raise CorruptedError(subject, "its manifest is not the committed one", "Rebuild it from the deltas.")
    return parse_manifest(data, key)


def _pointer_text(store: ObjectStore, collection: str) -> str | None:
    try:
        return store.get(layout.pointer(collection)).decode(errors="replace").strip()
    except ObjectMissingError:
        return None


def _pointed_generation(store: ObjectStore, collection: str) -> int | None:
    text = _pointer_text(store, collection)
    return layout.generation_of(text) if text else None


def _load(store: ObjectStore, collection: str, generation: int) -> Commit | None:
    key = layout.commit_log(collection, generation)
    try:
        raw = orjson.loads(store.get(key))
        return Commit(**{**raw, "added_deltas": tuple(raw["added_deltas"])})
    except ObjectMissingError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptedError(key, f"the commit is damaged ({error})", "Run `embedding-assets check`.") from error
