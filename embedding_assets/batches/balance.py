"""Conservation: what was requested is accepted, rejected or still pending, record by record, and proved by its ids.

`balance` proves it for one cell; `pending_cells` says cheaply which cells have something to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.discover import undiscovered
from embedding_assets.batches.documents import Refused
from embedding_assets.batches.landing import AGAIN
from embedding_assets.batches.requests import (
    foreign_request_id,
    latest_content,
    read_refused,
    read_requests,
)
from embedding_assets.batches.standing import CellStanding, RequestStanding, read_standing
from embedding_assets.batches.submit import REQUEST_KEY
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore

_NAMED = 1_000
DAYS_BACK = 35  # a window of 24 h, files that the API keeps for 30 days, and some room


@dataclass(frozen=True)
class Rejected:
    """A record that was rejected, by name: its id, or the place of a document that could not be asked."""

    name: str
    reason: str
    code: str


@dataclass(frozen=True)
class BatchBalance:
    """One request of a cell and what came back for it; `age` in seconds since its batch was created."""

    request_id: str
    batch_id: str
    attempt: int
    foreign: bool
    status: str
    requested: int
    accepted: int
    rejected: int
    missing: int
    age: int
    reason: str = ""


@dataclass(frozen=True)
class CellBalance:
    """A cell's books. A record rejected in one attempt and accepted in the next counts once, as accepted.

    Attributes:
        requested: records asked for, and documents that could not be asked.
        accepted, rejected: what is settled. `rejected` counts the refused documents too.
        pending: `unsent` + `in_flight` + `again`.
        refused: documents that could not be asked.
        reasons: how many were rejected for which reason's code.
        rejections: the first 1,000 of them by name.
        unaccounted: ids that are in none of the books; there must be none.
    """

    collection: str
    day: str
    requested: int
    accepted: int
    rejected: int
    unsent: int
    in_flight: int
    again: int
    refused: int
    reasons: Mapping[str, int]
    rejections: tuple[Rejected, ...]
    unaccounted: tuple[str, ...]
    batches: tuple[BatchBalance, ...]

    @property
    def pending(self) -> int:
        """Records that are asked and not settled."""
        return self.unsent + self.in_flight + self.again

    @property
    def balanced(self) -> bool:
        """Whether requested = accepted + rejected + pending, with no id left over."""
        return not self.unaccounted and self.requested == self.accepted + self.rejected + self.pending


def balance(store: ObjectStore, spec: CollectionSpec, day: str) -> CellBalance:
    """A cell's books, computed from the ids that were asked and those that came back.

    Raises:
        CorruptedError: a record of what was asked is damaged.
        StoreError: the store did not answer, or refuses.
    """
    standing = read_standing(store, spec, day, lambda: latest_content(store, read_requests(store, spec.name)).digests)
    return balance_of(spec.name, day, standing, read_refused(store, spec.name, day))


def balance_of(collection: str, day: str, standing: CellStanding, refused: Iterable[Refused]) -> CellBalance:
    """The books of a cell whose standing is known, and the documents that could not be asked."""
    turned_away = [Rejected(item.name, item.reason, "bad_document") for item in refused]
    # What was asked is counted from the requests themselves, what became of it from the places: were one lost on the
    # way from the first to the second, it would show here.
    asked = {digest for one in standing.requests for digest in one.ids.column("digest").to_pylist()}
    kinds = Counter(place.kind for place in standing.places.values())
    unaccounted = {p.id for p in standing.places.values() if p.kind == "unaccounted"}
    unaccounted |= {digest.hex() for digest in asked - set(standing.places)}
    unaccounted |= {_short(one) for one in standing.requests if one.ids.num_rows != one.asked.request.count}
    rejected = [
        *turned_away,
        *(Rejected(p.id, p.reason, p.code) for p in standing.places.values() if p.kind == "rejected"),
    ]
    return CellBalance(
        collection,
        day,
        len(asked) + len(turned_away),
        kinds["accepted"],
        len(rejected),
        kinds["unsent"],
        kinds["in_flight"],
        kinds["again"],
        len(turned_away),
        dict(Counter(item.code for item in rejected)),
        tuple(rejected[:_NAMED]),
        tuple(sorted(unaccounted)),
        tuple(_row(one) for one in standing.requests),
    )


def _short(one: RequestStanding) -> str:
    return f"{one.asked.request.request_id}: {one.ids.num_rows} ids of {one.asked.request.count}"


def _row(one: RequestStanding) -> BatchBalance:
    request, batch, landing = one.asked.request, one.asked.batch, one.landing
    return BatchBalance(
        request.request_id,
        batch.batch_id if batch else "",
        request.attempt,
        request.foreign,
        landing.status if landing else ("in flight" if batch else "unsent"),
        request.count,
        len(one.accepted),
        len(one.rejected),
        request.count - len(one.accepted) - len(one.rejected) if landing else 0,
        max(0, int(layout.now().timestamp()) - batch.created_at) if batch else 0,
        one.complaint or (landing.problem if landing else ""),
    )


@dataclass(frozen=True)
class PendingCell:
    """A cell with something to do.

    Attributes:
        finished: batches that ended and are not landed.
        unsent: intents without a batch.
        again: records to be asked again.
    """

    collection: str
    day: str
    finished: tuple[str, ...] = ()
    unsent: tuple[str, ...] = ()
    again: int = 0


@dataclass(frozen=True)
class PendingWork:
    """What a sensor needs to know.

    Attributes:
        cells: those with something to do.
        in_flight: how many known batches are not finished.
        undiscovered: batches of other programs that have no record and no mark yet, for `discover`.
    """

    cells: tuple[PendingCell, ...]
    in_flight: int = 0
    undiscovered: tuple[str, ...] = ()


def pending_cells(
    api: EmbeddingApi, store: ObjectStore, catalog: Catalog, *, days_back: int = DAYS_BACK
) -> PendingWork:
    """Which cells have finished batches that are not landed, unsent intents, or records to be asked again.

    One listing of the API; of the store one listing of requests and one of results for each collection, of recent days
    only; the records of a cell are read only where a landing is marked as leaving some over.

    Raises:
        ApiError, ApiUnavailableError, StoreError: one of the two cannot be listed.
    """
    since = layout.day_of(layout.now().timestamp() - days_back * 86_400)
    listed = list(api.list_batches())
    batches: dict[str, list[ApiBatch]] = {}
    for batch in listed:
        batches.setdefault(_request_id(batch), []).append(batch)
    cells: list[PendingCell] = []
    seen: set[str] = set()
    in_flight = 0
    for spec in catalog:
        requests = _Keys(store, layout.requests(spec.name), since)
        results = _Keys(store, layout.results(spec.name), since)
        for day, folders in requests.days.items():
            asked = {i for i, names in folders.items() if layout.REQUEST in names}
            seen |= asked
            known = {i: batches[i] for i in asked if i in batches}
            in_flight += sum(any(not b.ended for b in some) for some in known.values())
            landed = results.days.get(day, {})
            cell = PendingCell(
                spec.name,
                day,
                tuple(sorted(b.id for some in known.values() for b in _unlanded(some, landed))),
                tuple(sorted(i for i in asked if layout.BATCH not in folders[i])),
                _again(store, spec, day) if any(_leaves_over(names) for names in landed.values()) else 0,
            )
            if cell.finished or cell.unsent or cell.again:
                cells.append(cell)
    return PendingWork(tuple(cells), in_flight, tuple(undiscovered(store, catalog, listed, seen)))


def _request_id(batch: ApiBatch) -> str:
    return batch.metadata.get(REQUEST_KEY) or foreign_request_id(batch.id)


class _Keys:
    """A folder's keys since a day, as day -> second part (a request, a batch) -> what is below that."""

    def __init__(self, store: ObjectStore, folder: str, since: str) -> None:
        self.days: dict[str, dict[str, set[str]]] = {}
        for item in store.walk(folder, after=f"{folder}/{since}"):
            day, _, rest = item.key.removeprefix(f"{folder}/").partition("/")
            name, _, below = rest.partition("/")
            self.days.setdefault(day, {}).setdefault(name, set()).add(below)


def _unlanded(batches: list[ApiBatch], landed: Mapping[str, set[str]]) -> list[ApiBatch]:
    """A request's batches if they have all ended and none is landed; of duplicates only one ever is."""
    done = all(b.ended for b in batches) and not any(_landed(landed.get(layout.part(b.id))) for b in batches)
    return batches if done else []


def _landed(names: set[str] | None) -> bool:
    return any(name.endswith(f"/{layout.MANIFEST}") for name in names or ())


def _leaves_over(names: set[str]) -> bool:
    """Whether the newest landing of a batch is marked."""
    newest = max((n.split("/")[0] for n in names if n.endswith(f"/{layout.MANIFEST}")), default=None)
    return newest is not None and f"{newest}/{AGAIN}" in names


def _again(store: ObjectStore, spec: CollectionSpec, day: str) -> int:
    standing = read_standing(store, spec, day, lambda: latest_content(store, read_requests(store, spec.name)).digests)
    return sum(place.kind == "again" for place in standing.places.values())
