"""Writes the records of requests again that the log of what was asked has, and enters there those that it lacks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from embedding_assets.batches.asked_log import AskedEntry, OvertakenError, Request, enter, ids_of
from embedding_assets.batches.files import fetch_bytes, find, in_parallel
from embedding_assets.batches.requests import (
    CellRecords,
    Damaged,
    SentBatch,
    commit_intent,
    is_named,
    keep_batch,
    read_records,
)
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import encode


def restore_requests(store: ObjectStore, unlisted: Iterable[AskedEntry]) -> list[Request]:
    """Write what is gone of these requests: `request.json`, and the list of ids.

    Where their writer died before it wrote them, it is the same. Damaged ones are left as they are.

    Returns:
        Those of which something was gone.

    Raises:
        StoreError: the store did not answer, or refuses.
    """

    def restore(entry: AskedEntry) -> Request | None:
        request = entry.request
        ids = f"{request.folder}/{request.ids.name}"
        whole = store.exists(ids)
        with suppress(CorruptedError, ObjectExistsError):
            if not whole:
                store.put_new(ids, entry.ids_file)
        if store.exists(f"{request.folder}/{layout.REQUEST}"):
            return None if whole else request
        commit_intent(store, request)
        return request

    return [one for one in in_parallel(restore, unlisted) if one is not None]


def enter_earlier(store: ObjectStore, records: CellRecords) -> CellRecords:
    """Enter the requests of earlier versions, which kept no log, and write their numbers into `request.json`.

    Returns:
        The records with their numbers.
    """
    number, asked = records.next, list(records.asked)
    for place, one in enumerate(asked):
        if one.request.number or one.request.foreign:
            continue
        with suppress(CorruptedError, ObjectMissingError, OvertakenError):
            ids = fetch_bytes(store, one.request.folder, one.request.ids)
            entered, _ = enter(store, one.request, ids, number, frozenset())
            asked[place] = replace(one, request=entered)
            if one.batch is not None:
                keep_batch(store, entered, one.batch)
            number = entered.number + 1
            # Without its number in it, whoever looks would have to read the entry, which has all the ids, to know it.
            key = f"{entered.folder}/{layout.REQUEST}"
            store.replace(key, encode(entered, key))
    return replace(records, asked=asked, next=number)


def damaged_entries(store: ObjectStore, requests: Iterable[Request]) -> list[Damaged]:
    """The entries of these requests that are damaged, or gone; and the copies of batches beside them that are damaged.

    Where a copy is gone, its writer may have died before it. Where an entry contradicts `request.json`, the one whose
    request id is the digest of what it asks is right, or else the entry: it was written first, and by itself.
    """

    def look(request: Request) -> list[Damaged]:
        place, own = (request.collection, request.day, request.number), f"{request.folder}/{layout.REQUEST}"
        found: list[Damaged] = []
        for kind, key in ((AskedEntry, layout.asked(*place)), (SentBatch, layout.asked_batch(*place))):
            try:
                there = find(store, kind, key)
                if isinstance(there, AskedEntry) and _differ(there.request, request):
                    digests = ids_of(there).column("digest").to_pylist()
                    right = is_named(store, request, digests) > is_named(store, there.request, digests)
                    wrong = key if right else own
                    found.append(Damaged(request.request_id, wrong, "contradicts the log of what was asked"))
                reason = "" if there else "is gone from the store"
                if reason and kind is SentBatch:
                    reason = "is a folder where a file belongs" if any(True for _ in store.walk(key)) else ""
            except CorruptedError as error:
                reason = error.reason
            if reason:
                found.append(Damaged(request.request_id, key, reason))
        return found

    return [one for some in in_parallel(look, (one for one in requests if one.number)) for one in some]


def _differ(entered: Request, request: Request) -> bool:
    """Whether an entry says otherwise of its request; its files are held against one another elsewhere."""
    as_entered = replace(
        request, documents=entered.documents, ids=entered.ids, number=entered.number, format=entered.format
    )
    return entered.request_id == request.request_id and entered != as_entered


def write_entry(store: ObjectStore, request: Request, batch: SentBatch | None) -> None:
    """Write again what is gone of a request's entry, and the copy of its batch's record.

    Raises:
        CorruptedError: its list of ids is not whole either.
    """
    if batch is not None:
        keep_batch(store, request, batch)
    ids = fetch_bytes(store, request.folder, request.ids)
    key = layout.asked(request.collection, request.day, request.number)
    with suppress(ObjectExistsError):
        store.put_new(key, encode(AskedEntry.of(request, ids), key))


def read_restored(store: ObjectStore, collection: str, day: str) -> CellRecords:
    """The records of a cell, after what is gone was written again from the log. Errors as `read_records`."""
    records = read_records(store, collection, day)
    if restore_requests(store, records.unlisted):
        return read_records(store, collection, day)
    return records
