"""Looks up sent batches by their ids: what we wait for is known from our own records, whatever the API lists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.awaited import PATIENCE_SECONDS, is_late
from embedding_assets.batches.cell_names import CellNames
from embedding_assets.batches.client import PAGE, ApiMissingError, EmbeddingApi
from embedding_assets.batches.files import find, in_parallel
from embedding_assets.batches.position import Budget
from embedding_assets.batches.requests import SentBatch
from embedding_assets.errors import ApiError, ApiUnavailableError, CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore

_AT_ONCE = 8


@dataclass
class LookedUp:
    """What the API says of the batches of one cell, those that it listed left out.

    Attributes:
        finished: batches that ended and are not landed.
        forgotten: batches that the API has not known for so long that a poll counts them as lost.
        late: batches that should have ended long ago, and were not given up.
        under_way: how many are not finished.
        seen: the requests that were looked at; the others are for the next look.
        damaged: requests the record of whose batch is damaged, or belongs elsewhere.
        trouble: why no more were looked at, where the API did not answer.
    """

    finished: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    under_way: int = 0
    seen: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    trouble: ApiUnavailableError | None = None


def look_up(
    api: EmbeddingApi, store: ObjectStore, names: CellNames, requests: Iterable[str], budget: Budget
) -> LookedUp:
    """Ask the API for the batches of these requests of a cell that are not landed, as many as there is time for.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    found, left = LookedUp(), sorted(requests)

    def look(request_id: str) -> tuple[SentBatch, ApiBatch | None, bool] | ApiUnavailableError | None:
        key = f"{layout.requests(names.collection, names.day, request_id)}/{layout.BATCH}"
        try:
            sent = find(store, SentBatch, key)
            if sent is None or layout.part(sent.batch_id) in names.landed:
                return None
            return sent, api.retrieve(sent.batch_id), request_id in names.given_up
        except ApiMissingError:
            return (sent, None, False) if sent else None
        except ApiUnavailableError as error:
            return error
        except CorruptedError:
            found.damaged.add(request_id)
            return None
        except ApiError:
            return None  # one batch's trouble is said by the run that polls it, and must not hold up the others

    while left and found.trouble is None and not (found.seen and budget.time_is_up):
        some, left = left[:_AT_ONCE], left[_AT_ONCE:]
        # What brought trouble was looked at as well: were it first again in the next look, nothing else would be.
        found.seen.update(some)
        for one in in_parallel(look, some, _AT_ONCE):
            if isinstance(one, ApiUnavailableError):
                found.trouble = one
            elif one is not None:
                _note(found, *one)
    return found


def _note(found: LookedUp, sent: SentBatch, batch: ApiBatch | None, given_up: bool) -> None:
    if batch is None:
        if layout.now().timestamp() - sent.created_at >= PATIENCE_SECONDS:
            found.forgotten.append(sent.batch_id)
    elif batch.ended:
        found.finished.append(sent.batch_id)
    else:
        found.under_way += 1
        if not given_up and is_late(batch):
            found.late.append(batch.id)


def short_of(request_id: str) -> str:
    """Enough of a request's id to tell those of a cell apart, in a cursor that is to stay small."""
    return request_id[:12]


def listed(api: EmbeddingApi, wanted: list[SentBatch]) -> dict[str, ApiBatch]:
    """The batches by id, a hundred at a time, where there are so many that asking for each costs more calls."""
    if len(wanted) <= PAGE:
        return {}
    try:
        return {batch.id: batch for batch in api.list_batches(min(batch.created_at for batch in wanted))}
    except ApiUnavailableError:
        return {}  # each is asked for by itself, and its trouble said there
