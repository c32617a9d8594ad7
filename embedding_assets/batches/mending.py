"""Damage to the records of what was asked."""

from __future__ import annotations

from embedding_assets.batches.files import in_parallel
from embedding_assets.batches.requests import Damaged, Request, read_requests
from embedding_assets.errors import ObjectMissingError
from embedding_assets.store.objects import ObjectStore


def damaged_documents(store: ObjectStore, collection: str, day: str) -> list[Damaged]:
    """The documents of a cell's requests that are there and are not what was written: reads them all."""

    def look(request: Request) -> Damaged | None:
        key = f"{request.folder}/{request.documents.name}"
        wanted = (request.documents.size, request.documents.sha256)
        try:
            whole = any(store.sha256(key) == wanted for _ in (1, 2))
        except ObjectMissingError:
            return None  # `read_cell` says so
        return None if whole else Damaged(request.request_id, key, "is not what was written there")

    requests = [item.request for item in read_requests(store, collection, day)]
    return [one for one in in_parallel(look, requests) if one is not None]
