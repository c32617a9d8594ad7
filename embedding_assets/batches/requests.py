"""The record of what was asked: an intent that is written before anything is sent, and the batch that came of it.

A request is named by the digest of what it asks, so that whoever wants to ask the same finds it. Its files are written
first and `request.json`, put-if-absent, last: a folder without one is no request. `batch.json`, put-if-absent too,
says which batch answers it; of two batches for one request the other is a duplicate and is cancelled.

{collection}/requests/{day}/{request_id}/documents-{hash}.parquet   id, document, metadata, digest
{collection}/requests/{day}/{request_id}/ids-{hash}.parquet         id, digest: enough to know what was asked
{collection}/requests/{day}/{request_id}/request.json               the intent
{collection}/requests/{day}/{request_id}/batch.json                 the batch
{collection}/requests/{day}/{request_id}/given-up.json              that nobody waits for it any more
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pyarrow as pa

from embedding_assets.batches.asked_log import AskedEntry, Request, entry_of, ids_of, read_tail
from embedding_assets.batches.files import (
    StoredFile,
    fetch_file,
    find,
    in_parallel,
    read,
    read_parquet,
    store_file,
    write_parquet,
)
from embedding_assets.batches.identity import known_identity
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import FORMAT, encode

_ID_RULE = 2  # of the digests that name requests
IDS_FILE = "ids.parquet"  # as `write_files` leaves it in its folder
NO_REQUEST = "asked"  # stands for the request of a damaged entry that no request names as its own
REQUEST_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class SentBatch:
    """The batch that answers a request; `created_at` and `expires_at` are seconds since 1970; 0: unknown."""

    batch_id: str
    created_at: int
    input_file_id: str
    foreign: bool = False
    expires_at: int = 0
    format: int = FORMAT


@dataclass(frozen=True)
class GivenUp:
    """That a person gave a batch up: its records are asked again unless it is landed first; `at` in ISO form, UTC."""

    batch_id: str
    at: str
    format: int = FORMAT


@dataclass(frozen=True)
class Damaged:
    """A record of what was asked that is damaged or gone: the request it is of, its key, and what is wrong with it."""

    request_id: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"request {self.request_id}: {self.key}: {self.reason}"


@dataclass(frozen=True)
class Asked:
    """A request with its batch; None as long as nobody knows of one.

    Attributes:
        damage: what is wrong with the record of its batch. Where there is no copy of it either, nobody can tell whether
            the request was sent, and as what.
        given_up: whether a person gave that batch up.
    """

    request: Request
    batch: SentBatch | None
    damage: Damaged | None = None
    given_up: bool = False


def request_id_of(
    store_id: str,
    spec: CollectionSpec,
    day: str,
    attempt: int,
    digests: Iterable[bytes],
    replaces: Iterable[str] = (),
) -> str:
    """The id of a request for documents with these content digests, in whatever order.

    Args:
        store_id: the identity of the store, so that two stores never ask under one id.
        replaces: the requests that asked for other texts of the same ids. They belong to what is asked: a text that
            goes from A to B and back to A on one day is asked three times.
    """
    hasher = hashlib.blake2b(
        orjson.dumps([_ID_RULE, store_id, spec.name, spec.model, spec.dimensions, day, attempt]), digest_size=16
    )
    for digest in sorted(digests):
        hasher.update(digest)
    hasher.update("".join(sorted(set(replaces))).encode())
    return hasher.hexdigest()


def is_named(store: ObjectStore, request: Request, digests: Iterable[bytes]) -> bool:
    """Whether the id of a request is the digest of what it says, with these digests of its documents."""
    asked = CollectionSpec.model_construct(name=request.collection, model=request.model, dimensions=request.dimensions)
    return request_id_of(known_identity(store), asked, request.day, request.attempt, digests) == request.request_id


def foreign_request_id(batch_id: str, collection: str | None = None) -> str:
    """The id of the record of a batch that another program submitted.

    Args:
        collection: one that takes lines beside the collection that takes most.
    """
    named = [1, "foreign", batch_id, *([collection] if collection else [])]
    return hashlib.blake2b(orjson.dumps(named), digest_size=16).hexdigest()


def write_files(
    store: ObjectStore, folder_key: str, documents: pa.Table, folder: Path
) -> tuple[StoredFile, StoredFile]:
    """Upload a request's two files; harmless as long as no `request.json` names them."""
    files = {"documents": documents, "ids": documents.select(["id", "digest"])}
    stored = [
        store_file(store, folder_key, write_parquet(table, folder / f"{name}.parquet"), named_by_content=True)
        for name, table in files.items()
    ]
    return stored[0], stored[1]


def commit_intent(store: ObjectStore, request: Request) -> Request:
    """Write `request.json`, or find that another run wrote it for the same documents; returns the one that counts."""
    key = f"{request.folder}/{layout.REQUEST}"
    try:
        store.put_new(key, encode(request, key))
    except ObjectExistsError:
        return read(store, Request, key)
    return request


def commit_batch(store: ObjectStore, request_folder: str, batch: SentBatch) -> SentBatch:
    """Write `batch.json`, or find that another run wrote it; returns the one that counts."""
    key = f"{request_folder}/{layout.BATCH}"
    try:
        store.put_new(key, encode(batch, key))
    except ObjectExistsError:
        return read(store, SentBatch, key)
    return batch


def give_up(store: ObjectStore, request: Request, batch: SentBatch) -> None:
    """Write down that nobody waits for a request's batch any more; nothing where that is known."""
    key = f"{request.folder}/{layout.GIVEN_UP}"
    with suppress(ObjectExistsError):
        store.put_new(key, encode(GivenUp(batch.batch_id, layout.now().isoformat(timespec="seconds")), key))


def batch_for(store: ObjectStore, request: Request) -> SentBatch | None:
    """The batch that answers a request, as the store knows just now."""
    return find(store, SentBatch, f"{request.folder}/{layout.BATCH}")


def keep_batch(store: ObjectStore, request: Request, batch: SentBatch) -> None:
    """Write the copy of `batch.json` that stays where the request's folder goes, beside the request's entry."""
    if request.number:
        key = layout.asked_batch(request.collection, request.day, request.number)
        with suppress(ObjectExistsError):
            store.put_new(key, encode(batch, key))


def _sent(store: ObjectStore, request: Request) -> tuple[SentBatch | None, Damaged | None]:
    """The batch of a request by its record, or by the record's copy; and what is wrong with the record."""
    key, reason = f"{request.folder}/{layout.BATCH}", "is gone from the store"
    try:
        if (batch := batch_for(store, request)) is not None or not request.number:
            return batch, None
    except CorruptedError as error:
        reason = error.reason
    copy = None
    with suppress(CorruptedError):
        if request.number:
            copy = find(store, SentBatch, layout.asked_batch(request.collection, request.day, request.number))
    # Without a copy, a record that is not there was never written.
    gone = copy is None and reason == "is gone from the store"
    return copy, None if gone else Damaged(request.request_id, key, reason)


def read_requests(store: ObjectStore, collection: str, day: str) -> list[Asked]:
    """The requests of a cell that can be read, in the order they were made. Errors as `read_cell`."""
    return read_cell(store, collection, day)[0]


def read_cell(store: ObjectStore, collection: str, day: str) -> tuple[list[Asked], list[Damaged]]:
    """The requests of a cell, and what of their records is damaged or gone. As `read_records`."""
    records = read_records(store, collection, day)
    return records.asked, records.damaged


@dataclass(frozen=True)
class CellRecords:
    """What is known of a cell's requests.

    Attributes:
        asked: them, in the order they were made, by their own records or by the log of what was asked.
        damaged: records of them that are damaged or gone.
        unlisted: entries of the log whose requests no listing shows: it lags, or they are gone.
        next: the number of the log's next entry.
    """

    asked: list[Asked]
    damaged: list[Damaged]
    unlisted: tuple[AskedEntry, ...] = ()
    next: int = 1


def read_records(store: ObjectStore, collection: str, day: str) -> CellRecords:
    """The requests of a cell, and what of their records is damaged or gone.

    What a listing does not show is asked for by its key: listings of some stores lag.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    sizes: dict[str, int | None] = {item.key: item.size for item in store.walk(layout.requests(collection, day))}
    found, damaged = _readable(store, sizes)
    tail = read_tail(store, collection, day, {one.number for one in found if one.number})
    damaged += [Damaged(NO_REQUEST, key, reason) for key, reason in tail.damaged.items()]
    found, unlisted = _numbered(found, tail.entries)

    def size(key: str) -> int | None:
        if key not in sizes:
            sizes[key] = store.size(key)
        return sizes[key]

    def load(request: Request) -> tuple[Asked, list[Damaged]]:
        key, hurt = f"{request.folder}/{layout.BATCH}", []
        # The marker alone counts, so that one that cannot be read holds up nothing.
        given_up = f"{request.folder}/{layout.GIVEN_UP}" in sizes
        asked = Asked(request, *_sent(store, request), given_up)
        hurt.append(asked.damage)
        for file in (request.documents, request.ids):
            key = f"{request.folder}/{file.name}"
            if size(key) != file.size:
                reason = "is gone from the store" if size(key) is None else "is not what was written there"
                hurt.append(Damaged(request.request_id, key, reason))
        key = f"{request.folder}/{layout.REQUEST}"
        # Without a batch and with its files, it is about to be written, or its writer has died.
        if size(key) is None and (asked.batch is not None or hurt):
            hurt.append(Damaged(request.request_id, key, "is gone from the store"))
        return asked, [one for one in hurt if one is not None]

    loaded = in_parallel(load, _in_order([*found, *(entry.request for entry in unlisted)]))
    damaged += [one for _, hurt in loaded for one in hurt]
    every = list({one.key: one for one in damaged}.values())
    return CellRecords([asked for asked, _ in loaded], every, unlisted, tail.next)


def _numbered(found: list[Request], entries: Iterable[AskedEntry]) -> tuple[list[Request], tuple[AskedEntry, ...]]:
    """These requests with the numbers of their entries, and the entries of other requests."""
    # An earlier version, or who mends, writes requests that do not say their numbers.
    left = {entry.request.request_id: entry for entry in entries}
    named = [replace(one, number=left.pop(one.request_id).number) if one.request_id in left else one for one in found]
    return named, tuple(left.values())


def _in_order(requests: Iterable[Request]) -> list[Request]:
    return sorted(requests, key=lambda one: (one.day, one.made))


def read_history(store: ObjectStore, collection: str, since: str = "") -> list[Request]:
    """The requests of a collection, or those of a day and later, that can be read, in the order they were made."""
    return history_of(store, collection, since)[0]


def history_of(
    store: ObjectStore, collection: str, since: str, days: Iterable[str] = ()
) -> tuple[list[Request], list[Damaged], list[str]]:
    """The requests as `read_history`, those that cannot be read, and the keys of all.

    Args:
        days: whose logs are read though no listing shows a request of them.
    """
    folder = layout.requests(collection)
    keys = [item.key for item in store.walk(folder, after=f"{folder}/{since}" if since else None)]
    found, damaged = _readable(store, keys)
    known: dict[str, set[int]] = {day: set() for day in days}
    for one in found:
        known.setdefault(one.day, set()).add(one.number)
    tails = in_parallel(lambda day: read_tail(store, collection, day, known[day] - {0}), known)
    found, unlisted = _numbered(found, (entry for tail in tails for entry in tail.entries))
    of_log = {entry.request.request_id: entry.request for entry in unlisted}
    # What the log says of a request whose own record is damaged is all that there is to know.
    damaged = [one for one in damaged if one.request_id not in of_log]
    return _in_order([*found, *of_log.values()]), damaged, keys


def _readable(store: ObjectStore, keys: Iterable[str]) -> tuple[list[Request], list[Damaged]]:
    """The requests with these keys that can be read, in the order they were made; and those that cannot."""

    def load(folder: str) -> Request | Damaged:
        key = f"{folder}/{layout.REQUEST}"
        try:
            request = read(store, Request, key)
        except CorruptedError as error:
            return Damaged(folder.rsplit("/", 1)[1], key, error.reason)
        except ObjectMissingError:
            return Damaged(folder.rsplit("/", 1)[1], key, "is gone from the store")
        if request.folder != folder:
            return Damaged(folder.rsplit("/", 1)[1], key, f"it belongs to {request.folder}")
        return request

    found = in_parallel(load, _folders(keys))
    requests = [one for one in found if isinstance(one, Request)]
    return _in_order(requests), [one for one in found if isinstance(one, Damaged)]


def _folders(keys: Iterable[str]) -> list[str]:
    """The folders of committed requests among these keys: a batch is the sign of one, too."""
    parts = (key.rsplit("/", 2) for key in keys)
    return sorted(
        {
            f"{part[0]}/{part[1]}"
            for part in parts
            if part[-1] in (layout.REQUEST, layout.BATCH) and REQUEST_ID.fullmatch(part[1])
        }
    )


def asked_ids(store: ObjectStore, request: Request, found: Callable[[Damaged], None] | None = None) -> pa.Table:
    """What a request asked, as columns id and digest.

    Where the list itself is damaged, the log of what was asked says the same, and so do the request's documents;
    `found` is told.

    Raises:
        CorruptedError: all of them are damaged or gone.
        StoreError: the store did not answer, or refuses.
    """
    try:
        return _of_all(request, request.ids, read_parquet(store, request.folder, request.ids))
    except CorruptedError as error:
        if found:
            found(Damaged(request.request_id, error.subject, error.reason))
    with suppress(CorruptedError):
        if (entry := entry_of(store, request)) is not None:
            return _of_all(request, request.ids, ids_of(entry))
    documents = read_parquet(store, request.folder, request.documents)
    return _of_all(request, request.documents, documents).select(["id", "digest"])


def _of_all(request: Request, file: StoredFile, ids: pa.Table) -> pa.Table:
    if ids.num_rows != request.count:
        reason = f"has {ids.num_rows} records of {request.count}"
        raise CorruptedError(f"{request.folder}/{file.name}", reason, "Run `embedding-assets repair`.")
    return ids


def names_of_requests(store: ObjectStore, collection: str, day: str) -> list[str]:
    """The ids of a cell's requests, each told apart by whether it has a batch: one listing, nothing is read."""
    keys = [item.key for item in store.walk(layout.requests(collection, day))]
    sent = [f"{key.split('/')[-2]} sent" for key in keys if key.endswith(f"/{layout.BATCH}")]
    return sorted([*sent, *(key.split("/")[-2] for key in keys if key.endswith(f"/{layout.REQUEST}"))])


def asked_documents(store: ObjectStore, request: Request, folder: Path) -> Path:
    """A request's documents (DOCUMENTS_SCHEMA) in a Parquet file; CorruptedError where they are damaged."""
    return fetch_file(store, request.folder, request.documents, folder / f"{request.request_id}.parquet")
