"""What was last asked for of every id of a collection."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.files import in_parallel
from embedding_assets.batches.mending import proved_ids
from embedding_assets.batches.requests import history_of
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store.objects import ObjectStore

_NAMED_FILE = re.compile(r"(?:ids|documents)-([0-9a-f]{16})\.parquet")


@dataclass(frozen=True)
class Latest:
    """What was last asked for of every id: its content digest, and the request that asked.

    Attributes:
        uncertain: content digests of requests whose record is damaged: they may have been paid, so they count as asked.
    """

    digests: dict[str, bytes]
    requests: dict[str, str]
    uncertain: set[bytes] = field(default_factory=set)


def latest_content(store: ObjectStore, collection: str, since: str = "", days: Iterable[str] = ()) -> Latest:
    """What was last asked for of every id of a collection, or of those asked for on a day and later.

    Only first attempts count: a repetition is later than what it repeats, but its text is not newer.

    Args:
        days: whose logs are read though no listing shows a request of them yet.

    Raises:
        As `read_requests`.
    """
    requests, damaged, keys = history_of(store, collection, since, days)
    first = [request for request in requests if request.attempt == 1]
    latest = Latest({}, {})

    def load(request: Request) -> pa.Table | None:
        try:
            return proved_ids(store, request)
        except CorruptedError:
            return None

    def guess(folder: str) -> None:
        latest.uncertain.update(_contents_of(store, [key for key in keys if key.startswith(f"{folder}/")]))

    for one in damaged:
        guess(one.key.rsplit("/", 1)[0])
    for request in requests:
        if request.attempt > 1 and request.repeats is None:  # it was edited, or mended: nobody knows what it repeats
            guess(request.folder)
    for request, table in zip(first, in_parallel(load, first), strict=True):
        if table is None:
            guess(request.folder)
            continue
        ids = table.column("id").to_pylist()
        if len(set(ids)) < len(ids):  # it was edited, and which of two is right is not known
            latest.uncertain.update(table.column("digest").to_pylist())
        latest.digests.update(zip(ids, table.column("digest").to_pylist(), strict=True))
        latest.requests.update(dict.fromkeys(ids, request.request_id))
    return latest


def _contents_of(store: ObjectStore, keys: Iterable[str]) -> set[bytes]:
    """The content digests in a request's files, which prove by their names that they are whole."""
    found: set[bytes] = set()
    for key in keys:
        match = _NAMED_FILE.fullmatch(key.rsplit("/", 1)[1])
        with suppress(ObjectMissingError, CorruptedError, pa.ArrowInvalid):
            if match and (data := store.get(key)) and hashlib.sha256(data).hexdigest().startswith(match.group(1)):
                found.update(pq.read_table(pa.BufferReader(data), columns=["digest"]).column("digest").to_pylist())
    return found
