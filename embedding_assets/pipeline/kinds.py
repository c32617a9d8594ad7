"""The declaration against what a collection holds: a wrong line must cost nothing and block nothing.

Submitting and reading refuse a declaration that does not fit. Everything else goes by what the collection holds, so
that what was asked before is landed, built, compacted and balanced as if the line were right.
"""

from __future__ import annotations

from embedding_assets.batches.kinds import kinds_of_requests
from embedding_assets.catalog import Catalog, CollectionSpec, VectorKind
from embedding_assets.errors import ConfigurationError
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.kinds import kinds_of_deltas, likeliest, snapshot_of
from embedding_assets.vectorstore.transfer import at_once


def as_held(store: ObjectStore, spec: CollectionSpec) -> CollectionSpec:
    """A collection as declared, but with the kind of vectors that it holds.

    That is the kind of its current snapshot; where there is none, the declared one, if any delta, or without deltas
    any request, is of it, or there is nothing at all; else the one that most of them are of.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    return spec.of_kind(_held(store, spec)[0])


def catalog_as_held(store: ObjectStore, catalog: Catalog) -> Catalog:
    """All collections as `as_held` gives them."""
    specs = at_once(lambda spec: as_held(store, spec), list(catalog))
    return catalog.model_copy(update={"collections": {spec.name: spec for spec in specs}})


def require_declared(store: ObjectStore, spec: CollectionSpec) -> None:
    """Refuse to ask for anything under a declaration that does not fit what the collection holds.

    Raises:
        ConfigurationError: names both sides, and what to type.
        Others as `as_held`.
    """
    spec.require_kind(*_held(store, spec))


def mismatch(store: ObjectStore, spec: CollectionSpec) -> ConfigurationError | None:
    """What is wrong with a declaration, and what to type; None where it fits. Errors as `as_held`."""
    try:
        spec.require_kind(*_held(store, spec))
    except ConfigurationError as error:
        return error
    return None


def _held(store: ObjectStore, spec: CollectionSpec) -> tuple[VectorKind, str]:
    """The kind of a collection's vectors, and what holds them, in words."""
    snapshot = snapshot_of(store, spec.name)
    if snapshot is not None:
        return snapshot.vectors, f"its snapshot {snapshot.id} holds"
    of_deltas = likeliest(kinds_of_deltas(store, spec.name), spec.vectors)
    if of_deltas is not None:
        return of_deltas, "its deltas hold"
    return likeliest(kinds_of_requests(store, spec), spec.vectors) or spec.vectors, "its requests ask for"
