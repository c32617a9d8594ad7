"""Damage to the records of what was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import combinations
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.batches.asked_log import Request, entry_of, ids_of
from embedding_assets.batches.documents import canonical, content_digest
from embedding_assets.batches.files import fetch_file, in_parallel
from embedding_assets.batches.requests import Damaged, asked_ids, is_named
from embedding_assets.errors import CorruptedError
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store.objects import ObjectStore

_ROWS = 5_000
_ZEROS = 10  # of a record's metadata; with more it is not looked for which of them were minus zero


def damaged_documents(store: ObjectStore, requests: Iterable[Request]) -> list[Damaged]:
    """The documents of requests that are there and are not what was asked: reads them all.

    Their digests are held against what they say, and ids and digests against the list of ids: files that were edited
    together with `request.json` contradict one another.
    """

    def look(request: Request) -> Damaged | None:
        key = f"{request.folder}/{request.documents.name}"
        if not store.exists(key):
            return None  # `read_cell` says so
        try:
            with ScratchFolder("documents") as scratch:
                path = fetch_file(store, request.folder, request.documents, scratch / "documents.parquet")
                own = own_pairs(path)
        except CorruptedError as error:
            return Damaged(request.request_id, key, error.reason)
        if own is None:
            return Damaged(request.request_id, key, "holds documents that are not those that were asked")
        with suppress(CorruptedError):
            listed = pairs_of(asked_ids(store, request))
            entry = entry_of(store, request)
            if own != listed:
                # A digest is that of its id, too. The entry of the log was written by itself, and decides about them;
                # else the number of records does.
                asked = pairs_of(ids_of(entry)) if entry else listed
                wrong = request.ids if asked == own or _digests(own) == _digests(listed) else request.documents
                reason = f"contradicts the request's {'documents' if wrong == request.ids else 'list of ids'}"
                return Damaged(request.request_id, f"{request.folder}/{wrong.name}", reason)
        return None

    return [one for one in in_parallel(look, requests) if one is not None]


def pairs_of(ids: pa.Table) -> set[tuple[str, bytes]]:
    """The ids in a list, each with its digest."""
    return set(zip(ids.column("id").to_pylist(), ids.column("digest").to_pylist(), strict=True))


def _digests(pairs: set[tuple[str, bytes]]) -> set[bytes]:
    return {digest for _, digest in pairs}


def own_pairs(path: Path) -> set[tuple[str, bytes]] | None:
    """The ids of documents, each with its digest; None where one is not that of the document beside it."""
    found: set[tuple[str, bytes]] = set()
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for part in file.iter_batches(_ROWS, columns=["id", "document", "metadata", "digest"]):
            *rows, digests = (part.column(name).to_pylist() for name in ("id", "document", "metadata", "digest"))
            if not all(_is_digest_of(digest, *row) for *row, digest in zip(*rows, digests, strict=True)):
                return None
            found.update(zip(rows[0], digests, strict=True))
    return found


def _is_digest_of(digest: bytes, record_id: str, document: str, metadata: str) -> bool:
    if content_digest(record_id, document, metadata) == digest:
        return True
    # Minus zero is written as zero, and the digest alone still tells which it was.
    values = orjson.loads(metadata)
    zeros = [key for key, value in values.items() if type(value) is float and value == 0]
    signs = (some for count in range(1, len(zeros) + 1) for some in combinations(zeros, count))
    return len(zeros) > _ZEROS or any(
        content_digest(record_id, document, canonical({**values, **dict.fromkeys(some, -0.0)})) == digest
        for some in signs
    )


def proved_ids(store: ObjectStore, request: Request, found: Callable[[Damaged], None] | None = None) -> pa.Table:
    """As `asked_ids`; a list that was edited together with `request.json` is not believed.

    The id of a request is the digest of what it asks. Where it replaces other texts their requests belong to it, too;
    then the list is held against the entry of the log. Where `found` is to be told, so are the ids beside the digests;
    of two that differ, the documents tell which is right.
    """
    ids = asked_ids(store, request, found)
    if request.foreign or not request.number:
        return ids
    with suppress(CorruptedError):
        digests = ids.column("digest").to_pylist()
        named = is_named(store, request, digests)
        if named and not found:
            return ids
        entry = entry_of(store, request)
        entered = ids_of(entry) if entry else ids
        same = set(entered.column("digest").to_pylist()) == set(digests)
        renamed = same and pairs_of(entered) != pairs_of(ids) and not _are_of_documents(store, request, ids)
        if renamed or (not named and not same and entered.num_rows == request.count):
            if found:
                key = f"{request.folder}/{request.ids.name}"
                found(Damaged(request.request_id, key, "is not the list that was entered in the log"))
            return entered
    return ids


def _are_of_documents(store: ObjectStore, request: Request, ids: pa.Table) -> bool:
    with suppress(CorruptedError), ScratchFolder("documents") as scratch:
        path = fetch_file(store, request.folder, request.documents, scratch / "documents.parquet")
        return own_pairs(path) == pairs_of(ids)
    return False


def damaged_ids(store: ObjectStore, requests: Iterable[Request]) -> list[Damaged]:
    """The lists of ids that are not what was written."""
    found: list[Damaged] = []

    def look(request: Request) -> None:
        with suppress(CorruptedError):
            proved_ids(store, request, found.append)

    in_parallel(look, requests)
    return found
