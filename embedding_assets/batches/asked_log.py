"""The log of what a cell asked: an entry for each request, numbered from 1, written before anything is sent.

An entry is created put-if-absent under the next number, and asked for by its key. So nobody depends on a listing, which
may lag or lack a deleted folder, to know what was asked; of two writers one gets the number, and the other reads first
what that one asks. An entry has the whole request and its list of ids, so that both can be written again.

{collection}/asked/{day}/{number}.json
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.batches.files import StoredFile, find, in_parallel, is_whole
from embedding_assets.batches.position import is_day
from embedding_assets.errors import CorruptedError, EmbeddingAssetsError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import FORMAT, encode

_ENTRY = re.compile(r"(\d{6})\.json")
_REMEDY = "Run `embedding-assets repair`."


class OvertakenError(EmbeddingAssetsError):
    """Another run has just asked for some of the same ids: what is left to ask is planned again."""


@dataclass(frozen=True)
class Request:
    """What is asked in one batch.

    Attributes:
        request_id: 32 hexadecimal digits, the digest of store, collection, model, dimensions, day, attempt and
            documents.
        attempt: 1 when its records are asked for the first time in this cell, one more each time they are repeated.
        repeats: the request whose unanswered records it asks again.
        count: its records.
        made: when the intent was written, as `layout.new_id()`; a foreign batch's creation. Orders requests.
        foreign: whether another program submitted the batch.
        input_notes: of a foreign batch, the name of the object that says what is special about its input file.
        number: of its entry in the log of its cell; 0 where it has none: of a foreign batch, or an earlier version's.
    """

    request_id: str
    collection: str
    model: str
    dimensions: int
    day: str
    attempt: int
    count: int
    made: str
    documents: StoredFile
    ids: StoredFile
    repeats: str | None = None
    foreign: bool = False
    input_notes: str | None = None
    number: int = 0
    format: int = FORMAT

    def __post_init__(self) -> None:
        layout.require_names(self.collection, self.day, self.request_id, self.repeats, self.input_notes)

    @property
    def folder(self) -> str:
        """Its folder in the store."""
        return layout.requests(self.collection, self.day, self.request_id)


@dataclass(frozen=True)
class AskedEntry:
    """An entry of the log; `ids` is the file of the request's ids, in base 64."""

    number: int
    request: Request
    ids: str
    format: int = FORMAT

    @classmethod
    def of(cls, request: Request, ids: bytes) -> AskedEntry:
        """The entry of a request that has its number, with the file of its ids."""
        return cls(request.number, request, b64encode(ids).decode())

    @property
    def ids_file(self) -> bytes:
        """The file of the request's ids, as it was written.

        Raises:
            CorruptedError: it is not that.
        """
        data = b64decode(self.ids)
        if not is_whole(data, self.request.ids):
            raise CorruptedError(f"asked {self.number}", "its ids are not what was written", _REMEDY)
        return data


@dataclass(frozen=True)
class LogTail:
    """What the log of a cell says beyond what its reader knows.

    Attributes:
        next: the number that the next entry takes.
        entries: those that were read, in the order of their numbers.
        damaged: the keys of those that cannot be read, each with the reason.
    """

    next: int
    entries: tuple[AskedEntry, ...] = ()
    damaged: dict[str, str] = field(default_factory=dict)


def read_tail(store: ObjectStore, collection: str, day: str, known: AbstractSet[int]) -> LogTail:
    """The entries whose numbers are not known, each read by its key: one request where all are.

    Args:
        known: numbers of the requests that the caller has found.

    Raises:
        ConfigurationError: a newer version of this package wrote one.
        StoreError: the store did not answer, or refuses.
    """
    damaged: dict[str, str] = {}

    def load(number: int) -> AskedEntry | None:
        key = layout.asked(collection, day, number)
        try:
            entry = find(store, AskedEntry, key)
        except CorruptedError as error:
            damaged[key] = error.reason
            return None
        if entry is not None and (entry.number, entry.request.number) != (number, number):
            damaged[key] = "it says that it has another number"
            return None
        return entry

    entries: list[AskedEntry] = []

    def take(numbers: Iterable[int]) -> None:
        entries.extend(entry for entry in in_parallel(load, numbers) if entry is not None)

    top = max(known, default=0)
    take(number for number in range(1, top) if number not in known)
    listed = False
    while True:
        before = len(entries) + len(damaged)
        take([top + 1])
        found = len(entries) + len(damaged) > before
        top += found
        if not found and (listed or not before):
            return LogTail(top + 1, tuple(sorted(entries, key=lambda one: one.number)), damaged)
        if not listed:
            # Where there are many, a listing tells how many; and an entry may be gone, with others behind it.
            names = [item.key.rsplit("/", 1)[1] for item in store.walk(layout.asked(collection, day))]
            last = max((int(match.group(1)) for name in names if (match := _ENTRY.fullmatch(name))), default=0)
            take(range(top + 1, last + 1))
            top, listed = max(top, last), True


def enter(
    store: ObjectStore, request: Request, ids: bytes, number: int, planned: AbstractSet[str]
) -> tuple[Request, bool]:
    """Take the next number for a request.

    Args:
        ids: the file of its ids.
        number: the first one that may be free.
        planned: ids that this run asks for.

    Returns:
        The request with its number, and whether it is ours: another run may have entered it meanwhile.

    Raises:
        OvertakenError: another run has asked for some of the planned ids meanwhile.
        StoreError: the store did not answer, or refuses.
    """
    while True:
        ours = replace(request, number=number)
        key = layout.asked(request.collection, request.day, number)
        try:
            store.put_new(key, encode(AskedEntry.of(ours, ids), key))
        except ObjectExistsError:
            other = _other(store, key)
            if other is not None and other.request.request_id == request.request_id:
                return other.request, False
            if other is None or planned & set(ids_of(other).column("id").to_pylist()):
                raise OvertakenError(key, "another run has just asked for the same", "It is planned again.") from None
            number += 1
        else:
            return ours, True


def _other(store: ObjectStore, key: str) -> AskedEntry | None:
    try:
        return find(store, AskedEntry, key)
    except CorruptedError:
        return None


def entry_of(store: ObjectStore, request: Request) -> AskedEntry | None:
    """The entry of a request; None where it has none.

    Raises:
        CorruptedError: it is damaged.
        StoreError: the store did not answer, or refuses.
    """
    if not request.number:
        return None
    entry = find(store, AskedEntry, layout.asked(request.collection, request.day, request.number))
    return entry if entry is not None and entry.request.request_id == request.request_id else None


def ids_of(entry: AskedEntry) -> pa.Table:
    """What an entry's request asks, as columns id and digest; CorruptedError where that is damaged."""
    return pq.read_table(pa.BufferReader(entry.ids_file))


def days_of(store: ObjectStore, collection: str) -> list[str]:
    """The days of a collection's cells: each has requests, a log of what was asked, landings, or deltas."""
    places = [of(collection) for of in (layout.requests, layout.asked, layout.results, layout.deltas)]
    return sorted({day for some in in_parallel(store.folders, places) for day in some if is_day(day)})
