"""Damage to the records of what was asked."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.files import in_parallel
from embedding_assets.batches.requests import Damaged, asked_ids
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store.objects import ObjectStore


def damaged_documents(store: ObjectStore, requests: Iterable[Request]) -> list[Damaged]:
    """The documents of requests that are there and are not what was written: reads them all."""

    def look(request: Request) -> Damaged | None:
        key = f"{request.folder}/{request.documents.name}"
        wanted = (request.documents.size, request.documents.sha256)
        try:
            whole = any(store.sha256(key) == wanted for _ in (1, 2))
        except ObjectMissingError:
            return None  # `read_cell` says so
        return None if whole else Damaged(request.request_id, key, "is not what was written there")

    return [one for one in in_parallel(look, requests) if one is not None]


def damaged_ids(store: ObjectStore, requests: Iterable[Request]) -> list[Damaged]:
    """The lists of ids that are not what was written."""
    found: list[Damaged] = []

    def look(request: Request) -> None:
        with suppress(CorruptedError):
            asked_ids(store, request, found.append)

    in_parallel(look, requests)
    return found
