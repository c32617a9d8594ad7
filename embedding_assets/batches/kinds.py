"""Which requests and landings are of the collection's own model and dimension; the others are set aside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Protocol

from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.files import in_parallel
from embedding_assets.batches.requests import REQUEST_ID
from embedding_assets.catalog import CollectionSpec, VectorKind
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.store.sealed import decode


class Asked(Protocol):
    """A request or a landing: what was asked of the API. The distance is none of its business."""

    @property
    def model(self) -> str: ...
    @property
    def dimensions(self) -> int: ...


def fits(asked: Asked, spec: CollectionSpec) -> bool:
    """Whether its vectors are of the collection's model and dimension."""
    return (asked.model, asked.dimensions) == (spec.model, spec.dimensions)


def as_asked(asked: Asked, spec: CollectionSpec) -> CollectionSpec:
    """The collection with the model and the dimension that a request asks for: its answers are held against those."""
    return spec.of_kind(VectorKind(asked.model, asked.dimensions, spec.distance))


def why_aside(asked: Asked, spec: CollectionSpec) -> str:
    """Why a request or a landing is set aside, in words."""
    return (
        f"was asked with {asked.model}, {asked.dimensions} dimensions; "
        f"the collection holds {spec.model}, {spec.dimensions} dimensions"
    )


def kinds_of_requests(store: ObjectStore, spec: CollectionSpec) -> Iterator[VectorKind]:
    """The kinds that a collection's requests ask for, one by one as they are read; damaged ones are passed over."""
    for item in store.walk(layout.requests(spec.name)):
        match item.key.split("/")[2:]:
            case [day, request_id, layout.REQUEST] if REQUEST_ID.fullmatch(request_id):
                asked = _asked(store, spec.name, day, request_id)
                if asked is not None:
                    yield VectorKind(*asked, spec.distance)


def others_among(store: ObjectStore, spec: CollectionSpec, day: str, requests: Iterable[str]) -> frozenset[str]:
    """Those of a cell's requests that ask for another kind than the collection's; each is read once by a process."""
    known = list(requests)
    asked = in_parallel(lambda request_id: _asked(store, spec.name, day, request_id), known)
    wanted = (spec.model, spec.dimensions)
    return frozenset(i for i, has in zip(known, asked, strict=True) if has is not None and has != wanted)


@lru_cache(maxsize=100_000)
def _asked(store: ObjectStore, collection: str, day: str, request_id: str) -> tuple[str, int] | None:
    """Model and dimension of a request, which never change; None where its record is damaged or gone."""
    key = f"{layout.requests(collection, day, request_id)}/{layout.REQUEST}"
    try:
        request = decode(Request, key, store.get(key))
    except (CorruptedError, ObjectMissingError):
        return None
    return request.model, request.dimensions
