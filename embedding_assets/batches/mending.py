"""Damage to the records of what was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.batches.asked_log import Request, entry_of, ids_of
from embedding_assets.batches.documents import content_digest
from embedding_assets.batches.files import fetch_file, in_parallel
from embedding_assets.batches.identity import known_identity
from embedding_assets.batches.requests import Damaged, asked_ids, request_id_of
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import CorruptedError
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store.objects import ObjectStore

_ROWS = 5_000


def damaged_documents(store: ObjectStore, requests: Iterable[Request]) -> list[Damaged]:
    """The documents of requests that are there and are not what was asked: reads them all.

    Their digests are held against what they say, and against the list of ids: files that were edited together with
    `request.json` contradict one another.
    """

    def look(request: Request) -> Damaged | None:
        key = f"{request.folder}/{request.documents.name}"
        if not store.exists(key):
            return None  # `read_cell` says so
        try:
            with ScratchFolder("documents") as scratch:
                path = fetch_file(store, request.folder, request.documents, scratch / "documents.parquet")
                own = own_digests(path)
        except CorruptedError as error:
            return Damaged(request.request_id, key, error.reason)
        if own is None:
            return Damaged(request.request_id, key, "holds documents that are not those that were asked")
        with suppress(CorruptedError):
            listed = digests_of(asked_ids(store, request))
            entry = entry_of(store, request)
            if own != listed:
                # The entry of the log was written by itself, and decides; else the number of records does.
                asked = digests_of(ids_of(entry)) if entry else listed
                wrong = request.ids if asked == own else request.documents
                reason = f"contradicts the request's {'documents' if wrong == request.ids else 'list of ids'}"
                return Damaged(request.request_id, f"{request.folder}/{wrong.name}", reason)
        return None

    return [one for one in in_parallel(look, requests) if one is not None]


def digests_of(ids: pa.Table) -> set[bytes]:
    """The digests in a list of ids."""
    return set(ids.column("digest").to_pylist())


def own_digests(path: Path) -> set[bytes] | None:
    """The digests of documents; None where one is not that of the document beside it."""
    found: set[bytes] = set()
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for part in file.iter_batches(_ROWS, columns=["id", "document", "metadata", "digest"]):
            *rows, digests = (part.column(name).to_pylist() for name in ("id", "document", "metadata", "digest"))
            if any(content_digest(*row) != digest for *row, digest in zip(*rows, digests, strict=True)):
                return None
            found.update(digests)
    return found


def proved_ids(store: ObjectStore, request: Request, found: Callable[[Damaged], None] | None = None) -> pa.Table:
    """As `asked_ids`; a list that was edited together with `request.json` is not believed.

    The id of a request is the digest of what it asks. Where it replaces other texts their requests belong to it, too;
    then the list is held against the entry of the log.
    """
    ids = asked_ids(store, request, found)
    if request.foreign or not request.number:
        return ids
    with suppress(CorruptedError):
        asked = CollectionSpec.model_construct(
            name=request.collection, model=request.model, dimensions=request.dimensions
        )
        digests = ids.column("digest").to_pylist()
        if request_id_of(known_identity(store), asked, request.day, request.attempt, digests) == request.request_id:
            return ids
        entry = entry_of(store, request)
        entered = ids_of(entry) if entry else ids
        if digests_of(entered) != set(digests) and entered.num_rows == request.count:
            if found:
                key = f"{request.folder}/{request.ids.name}"
                found(Damaged(request.request_id, key, "is not the list that was entered in the log"))
            return entered
    return ids


def damaged_ids(store: ObjectStore, requests: Iterable[Request]) -> list[Damaged]:
    """The lists of ids that are not what was written."""
    found: list[Damaged] = []

    def look(request: Request) -> None:
        with suppress(CorruptedError):
            proved_ids(store, request, found.append)

    in_parallel(look, requests)
    return found
