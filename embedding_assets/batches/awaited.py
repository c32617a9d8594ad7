"""What the API says it did, held against what its files gave; a difference means "not yet" for a while."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field

from embedding_assets.batches.answers import GRACE_SECONDS, ApiBatch, window_end
from embedding_assets.batches.files import in_parallel
from embedding_assets.batches.landing import Landing
from embedding_assets.batches.landing_files import Landed
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import decode, encode

# So long is waited for what the API should have: its window of 24 h and as much again, from the batch's end, or from
# its creation where the API does not know it. The API may be slow to show a batch or its files, or the key be another
# organisation's for a while; paying again has time.
PATIENCE_SECONDS = 48 * 3600
_CLOCKS_DIFFER = 86_400
_NAME = "awaited.json"


@dataclass(frozen=True)
class Awaited:
    """Why nothing of an ended batch was landed when it was first polled."""

    batch_id: str
    reason: str


@dataclass(frozen=True)
class Late:
    """That a batch should have ended long ago, and what the API called it when that was first seen.

    Attributes:
        status: in the API's words.
        at: when it was seen, in ISO form, UTC.
    """

    batch_id: str
    status: str
    at: str


def patient(created_at: int, ended_at: int = 0) -> bool:
    """Whether it is too early to give up on what the API should have; both in seconds since 1970."""
    now = layout.now().timestamp()
    # A time that has not come yet is none: some servers give milliseconds.
    since = max((at for at in (created_at, ended_at) if at < now + _CLOCKS_DIFFER), default=0)
    return now - since < PATIENCE_SECONDS


def is_late(batch: ApiBatch) -> bool:
    """Whether a batch should have ended long ago."""
    return not batch.ended and layout.now().timestamp() > window_end(batch.created_at, batch.expires_at) + GRACE_SECONDS


def not_come(batch: ApiBatch, landed: Landed) -> int:
    """How many answers the API says it has, and its files do not hold.

    Counts are believed only where they claim more than was read: servers get them wrong. Where the lines speak of every
    record that was asked for, they do not matter. A server that counts nothing says with `completed` alone that every
    request has its answer.
    """
    _, completed, failed = batch.requests
    every = len(landed.requested) + len(landed.others)
    claimed = min(max(0, completed) + max(0, failed), every)
    if batch.status == "completed" and not any(batch.requests):
        claimed = every
    told = len(landed.accepted) + len(landed.rejected) + landed.elsewhere + landed.stray - landed.torn
    return min(landed.missing, max(claimed - told, landed.torn))


def tells_all(landing: Landing, batch: ApiBatch) -> bool:
    """Whether a landing speaks of as many answers as the API says that it has."""
    _, completed, failed = batch.requests
    return landing.requested - landing.missing + landing.stray >= min(completed + failed, landing.requested)


def note(store: ObjectStore, collection: str, day: str, awaited: Awaited) -> None:
    """Keep, once for each batch, that its answers are waited for."""
    key = f"{layout.results(collection, day, awaited.batch_id)}/{_NAME}"
    with suppress(ObjectExistsError):
        store.put_new(key, encode(awaited, key))


def note_late(store: ObjectStore, collection: str, day: str, batch: ApiBatch) -> None:
    """Keep, once for each of its statuses, that a batch is late."""
    word = hashlib.sha256(batch.status.encode()).hexdigest()[:16]
    key = f"{layout.results(collection, day, batch.id)}/late-{word}.json"
    with suppress(ObjectExistsError):
        store.put_new(key, encode(Late(batch.id, batch.status, layout.now().isoformat(timespec="seconds")), key))


@dataclass(frozen=True)
class Notes:
    """What was noted of a cell's batches by their ids, those that are landed by now among them.

    Attributes:
        awaited: why nothing of an ended one was landed.
        late: how the API called those that should have ended, the last time that was seen.
    """

    awaited: dict[str, str] = field(default_factory=dict)
    late: dict[str, Late] = field(default_factory=dict)


def read_notes(store: ObjectStore, collection: str, day: str) -> Notes:
    """The notes of a cell; one that cannot be read is left out: it says why, and decides nothing."""

    def load(key: str) -> Awaited | Late | None:
        try:
            data = store.get(key)
            return decode(Awaited, key, data) if key.endswith(f"/{_NAME}") else decode(Late, key, data)
        except (CorruptedError, ObjectMissingError):
            return None

    names = [(item.key, item.key.rsplit("/", 1)[-1]) for item in store.walk(layout.results(collection, day))]
    noted = [(key, name) for key, name in names if layout.BATCH_NOTE.fullmatch(name)]
    found = in_parallel(load, [key for key, name in noted if not name.startswith("newer-")])
    return Notes(
        {one.batch_id: one.reason for one in found if isinstance(one, Awaited)},
        {one.batch_id: one for one in sorted((x for x in found if isinstance(x, Late)), key=lambda x: x.at)},
    )
