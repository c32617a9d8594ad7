"""What the API says it did, held against what its files gave; a difference means "not yet" for a while."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.files import decode, encode, in_parallel
from embedding_assets.batches.landing_files import Landed
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore

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


def patient(created_at: int, ended_at: int = 0) -> bool:
    """Whether it is too early to give up on what the API should have; both in seconds since 1970."""
    now = layout.now().timestamp()
    # A time that has not come yet is none: some servers give milliseconds.
    since = max((at for at in (created_at, ended_at) if at < now + _CLOCKS_DIFFER), default=0)
    return now - since < PATIENCE_SECONDS


def not_come(batch: ApiBatch, landed: Landed) -> int:
    """How many answers the API says it has, and its files do not hold.

    Counts are believed only where they claim more than was read: servers get them wrong. Where the lines speak of every
    record that was asked for, they do not matter. A server that counts nothing says with `completed` alone that every
    request has its answer.
    """
    _, completed, failed = batch.requests
    claimed = min(max(0, completed) + max(0, failed), len(landed.requested))
    if batch.status == "completed" and not any(batch.requests):
        claimed = len(landed.requested)
    told = len(landed.accepted) + len(landed.rejected) + landed.stray - landed.torn
    return min(landed.missing, max(claimed - told, landed.torn))


def note(store: ObjectStore, collection: str, day: str, awaited: Awaited) -> None:
    """Keep, once for each batch, that its answers are waited for."""
    key = f"{layout.results(collection, day, awaited.batch_id)}/{_NAME}"
    with suppress(ObjectExistsError):
        store.put_new(key, encode(awaited, key))


def read_awaited(store: ObjectStore, collection: str, day: str) -> dict[str, str]:
    """Reasons by batch id, those of batches that are landed by now among them."""

    def load(key: str) -> Awaited | None:
        try:
            return decode(Awaited, key, store.get(key))
        except (CorruptedError, ObjectMissingError):
            return None  # it says why, and decides nothing

    keys = [item.key for item in store.walk(layout.results(collection, day)) if item.key.endswith(f"/{_NAME}")]
    return {one.batch_id: one.reason for one in in_parallel(load, keys) if one is not None}
