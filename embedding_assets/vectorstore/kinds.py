"""What kind of vectors a collection holds, and which of its deltas are of another kind and so set aside.

The kind of a collection is that of its current snapshot. Where there is none, the declaration counts, unless all that
there is contradicts it. A delta of another kind stays where it is: nothing reads it, and nothing waits for it. Whether
it is set aside is told by comparing, each time; so it is used again as soon as it fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from embedding_assets.catalog import CollectionSpec, VectorKind
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.bases import bases
from embedding_assets.vectorstore.commit import LogEnd, log_end
from embedding_assets.vectorstore.delta import DeltaRef
from embedding_assets.vectorstore.manifest import Manifest, load_manifest
from embedding_assets.vectorstore.transfer import at_once


@dataclass(frozen=True)
class SetAside:
    """A delta of another kind than its collection."""

    ref: DeltaRef
    has: VectorKind
    wanted: VectorKind

    def __str__(self) -> str:
        return f"delta {self.ref.id} is {why_aside(self.has, self.wanted)}"


def why_aside(has: VectorKind, wanted: VectorKind) -> str:
    """Why a database is set aside, in words that follow its name and "is" or "was"."""
    return f"set aside: it holds {has}; the collection holds {wanted}"


def snapshot_of(store: ObjectStore, collection: str, end: LogEnd | None = None) -> Manifest | None:
    """The newest snapshot whose manifest can be read: the current one, unless that is damaged."""
    found = bases(store, collection, end or log_end(store, collection))
    return next((base.manifest for base in found if base.manifest is not None), None)


def collection_kind(
    store: ObjectStore, spec: CollectionSpec, end: LogEnd | None = None, base: Manifest | None = None
) -> VectorKind:
    """The kind of vectors that a collection's databases hold; the declared one where it has none yet.

    Args:
        store, spec: the collection.
        end, base: the end of its log and its newest snapshot, where they are known already.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    snapshot = base or snapshot_of(store, spec.name, end)
    if snapshot is not None:
        return snapshot.vectors
    return likeliest(kinds_of_deltas(store, spec.name), spec.vectors) or spec.vectors


def likeliest(found: Iterable[VectorKind], declared: VectorKind) -> VectorKind | None:
    """The declared kind if any is found to be of it, else the one that most are of; None where nothing is found."""
    counts: Counter[VectorKind] = Counter()
    for kind in found:
        if kind == declared:
            return declared
        counts[kind] += 1
    return counts.most_common(1)[0][0] if counts else None


def kinds_of_deltas(store: ObjectStore, collection: str) -> Iterator[VectorKind]:
    """The kinds of the committed deltas, one by one as they are read."""
    for item in store.walk(layout.deltas(collection)):
        parts = item.key.split("/")
        if parts[-1] == layout.MANIFEST and len(parts) == 5:
            kind = _kind(store, DeltaRef(parts[3], parts[2], collection))
            if kind is not None:
                yield kind


def sort_out(
    store: ObjectStore, refs: Sequence[DeltaRef], kind: VectorKind
) -> tuple[tuple[DeltaRef, ...], tuple[SetAside, ...]]:
    """The deltas of a kind, in order, and those that are set aside; damaged ones are left among the first."""
    kinds = at_once(lambda ref: _kind(store, ref), refs, threads=16)
    fitting = tuple(ref for ref, has in zip(refs, kinds, strict=True) if has in (None, kind))
    others = zip(refs, kinds, strict=True)
    return fitting, tuple(SetAside(ref, has, kind) for ref, has in others if has not in (None, kind))


@lru_cache(maxsize=50_000)
def _kind(store: ObjectStore, ref: DeltaRef) -> VectorKind | None:
    """The kind of a delta, which never changes; None where its manifest is damaged or gone."""
    try:
        return load_manifest(store, ref.key).vectors
    except (CorruptedError, ObjectMissingError):
        return None
