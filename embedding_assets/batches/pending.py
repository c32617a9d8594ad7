"""Which cells have something to do, told cheaply: by the API's list and by names, and by no more of either than needed.

A look that runs out of its budget stops, and the next one goes on where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.asked_log import days_of
from embedding_assets.batches.awaited import is_late
from embedding_assets.batches.by_id import LookedUp, look_up, short_of
from embedding_assets.batches.cell_names import CellNames, read_names
from embedding_assets.batches.client import ApiMissingError, BatchPage, EmbeddingApi, goes_back
from embedding_assets.batches.discover import requests_of, undiscovered
from embedding_assets.batches.files import in_parallel
from embedding_assets.batches.identity import creator_of, known_identity
from embedding_assets.batches.kinds import others_among
from embedding_assets.batches.latest import latest_content
from embedding_assets.batches.pending_work import PendingCell, PendingWork
from embedding_assets.batches.position import Budget, Cell, Position, cell_of, is_cell, is_day, key_of, start_of
from embedding_assets.batches.standing import read_standing
from embedding_assets.batches.submit import COLLECTION_KEY, DAY_KEY, REQUEST_KEY
from embedding_assets.catalog import Catalog
from embedding_assets.errors import ApiUnavailableError
from embedding_assets.records import slices
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore

DAYS_BACK = 35  # a window of 24 h, files that the API keeps for 30 days, and some room
_CELLS_AT_ONCE = 8
_REQUESTS_AT_ONCE = 200
_OVERLAP_SECONDS = 600  # clocks differ
# A count of records to be asked again that was not zero is repeated so often: a newer text may have come elsewhere.
_COUNTED_SECONDS = 600


def pending_cells(
    api: EmbeddingApi,
    store: ObjectStore,
    catalog: Catalog,
    *,
    position: Position | None = None,
    budget: Budget | None = None,
    also: Iterable[Cell] = (),
) -> PendingWork:
    """Which cells have finished batches that are not landed, unsent intents, or records to be asked again.

    A round looks at the cells that were open, at those of today and yesterday, and at those that the API's recent
    batches are of; every hour at all cells of the last 35 days, every day at all that there are. The records of a cell
    are read only where a landing is marked as leaving some over. A sent batch that is not landed is looked at every
    hour: where the list does not show it, by its id.

    Args:
        position: where the look before stopped; without one, everything is looked at.
        budget: how much this look may do; all that there is unless given.
        also: further cells to look at, taken up as a round begins.

    Raises:
        ApiError, ApiUnavailableError, StoreError: one of the two cannot be listed at all.
    """
    look = _Look(api, store, catalog, position or Position(), budget or Budget())
    if look.position.over:
        look.begin(also)
    look.read_pages()
    look.look_at_what_is_left()
    look.look_up_what_is_not_listed()
    return look.work()


@dataclass
class _Look:
    api: EmbeddingApi
    store: ObjectStore
    catalog: Catalog
    position: Position
    budget: Budget
    names: dict[Cell, CellNames] = field(default_factory=dict)
    batches: dict[str, list[ApiBatch]] = field(default_factory=dict)  # of the pages of this look, by request
    others: list[ApiBatch] = field(default_factory=list)
    by_id: dict[Cell, LookedUp] = field(default_factory=dict)
    counted: bool = False  # whether records to be asked again were counted in this look
    trouble: ApiUnavailableError | None = None

    def __post_init__(self) -> None:
        now = layout.now().timestamp()
        self.since = layout.day_of(now - DAYS_BACK * 86_400)
        self.store_id = known_identity(self.store)
        self.recent = [layout.day_of(now), layout.day_of(now - 86_400)]

    def begin(self, also: Iterable[Cell]) -> None:
        """Begin a round: of everything where that was long ago, else of what may have changed."""
        now, before, full = layout.now().timestamp(), self.position, self.position.full_is_due
        old = full and before.old_is_due
        opened = {key: sent for key, sent in before.open.items() if cell_of(key)[0] in self.catalog.collections}
        cells = [(spec.name, day) for day in self.recent for spec in self.catalog]
        cells += map(cell_of, opened)
        if full:
            cells += [(spec.name, day) for spec in self.catalog for day in self._days(spec.name, old)]
        # No batch that is waited for is older than its cell, and no batch that is new is older than the last round.
        times = [start_of(cell_of(key)[1]) for key, sent in opened.items() if sent] + [before.began - _OVERLAP_SECONDS]
        self.position = replace(
            before,
            began=now,
            full_at=now if full else before.full_at,
            old_at=now if old else before.old_at,
            seen=(),
            over=False,
            listed=False,
            # Older batches are looked up by their ids.
            horizon=start_of(self.since) if full else max(start_of(self.since), min(times)),
            head="",
            after="",
            created=None,
            ordered=True,
            under_way=0,
            # The newest first: there is most to be done.
            left=tuple(sorted({*cells, *filter(is_cell, also)}, key=lambda cell: cell[1], reverse=True)),
            open={} if full else opened,
        )

    def _days(self, collection: str, old: bool) -> list[str]:
        return [day for day in days_of(self.store, collection) if old or day >= self.since]

    def read_pages(self) -> None:
        """Read the API's list, from where it was left off to where the round needs no more."""
        pages = 0
        while not self.position.listed and pages < self.budget.pages and not (pages and self.budget.time_is_up):
            try:
                page = self.api.page(self.position.after or None)
            except ApiMissingError:
                if not self.position.after:
                    raise
                # The batch that we would go on behind is gone: from the beginning, then.
                self.position = replace(self.position, head="", after="", created=None)
                continue
            except ApiUnavailableError as error:
                if not pages:
                    raise
                # What was read by now is not in vain: where a limit is met at the same place each time, the next
                # look goes on from there.
                self.trouble = error
                return
            pages += 1
            self._take(page)

    def _take(self, page: BatchPage) -> None:
        position, batches = self.position, page.batches
        began_again = bool(position.head) and any(batch.id == position.head for batch in batches)
        if not batches or began_again:
            self.position = replace(position, listed=True)
            return
        times = [batch.created_at for batch in batches]
        before = [] if position.created is None else [position.created]
        ordered = position.ordered and goes_back([*before, *times])
        self.position = replace(
            position,
            head=position.head or batches[0].id,
            after=batches[-1].id,
            created=times[-1],
            ordered=ordered,
            listed=not page.more or (ordered and times[-1] < position.horizon),
        )
        # What is older shares the last page with what is wanted.
        mine = [
            b
            for b in batches
            if b.embeds
            and not (ordered and b.created_at < position.horizon)
            and creator_of(b, self.store_id) != "other"
        ]
        self._look_at(cell for batch in mine for cell in self._cells_of(batch))
        under_way, seen = 0, set(self.position.seen)
        for batch in mine:
            asked = {c: ids for c in self._cells_of(batch) if (ids := requests_of(batch, c[0]) & self.names[c].asked)}
            if asked:
                self.batches.setdefault(batch.metadata.get(REQUEST_KEY, batch.id), []).append(batch)
                under_way += not batch.ended
                seen.update(short_of(one) for c, ids in asked.items() if self.position.is_sought(c) for one in ids)
            else:
                self.others.append(batch)
        self.position = replace(self.position, under_way=self.position.under_way + under_way, seen=tuple(sorted(seen)))

    def _cells_of(self, batch: ApiBatch) -> list[Cell]:
        """Where a batch's record is, if it has one."""
        if REQUEST_KEY in batch.metadata:
            cells = [(batch.metadata.get(COLLECTION_KEY, ""), batch.metadata.get(DAY_KEY, ""))]
        else:
            cells = [(name, layout.day_of(batch.created_at)) for name in self.catalog.names]
        return [c for c in cells if c[0] in self.catalog.collections and is_day(c[1])]

    def look_at_what_is_left(self) -> None:
        """Look at cells that no batch of the API's list led to."""
        declared = self.catalog.collections
        left = [cell for cell in self.position.left if cell not in self.names and cell[0] in declared]
        while left and not (self.names and self.budget.time_is_up):
            self._look_at(left[:_CELLS_AT_ONCE])
            left = left[_CELLS_AT_ONCE:]
        self.position = replace(self.position, left=tuple(left))

    def look_up_what_is_not_listed(self) -> None:
        """Where the round has read the list: ask by its id for each sent batch that it did not show."""
        if not self.position.listed or self.position.left:
            return
        for cell in self._to_seek():
            if self.trouble is not None or (self.by_id and self.budget.time_is_up):
                return
            self._look_at([cell])
            names = self.names[cell]
            left = [one for one in names.sent if names.waiting and short_of(one) not in self.position.seen]
            found = look_up(self.api, self.store, names, left, self.budget)
            self.by_id[cell], self.trouble = found, found.trouble
            position = self.position
            self.position = replace(
                position,
                under_way=position.under_way + found.under_way,
                seen=(*position.seen, *map(short_of, sorted(found.seen))),
                sought={**position.sought, key_of(cell): position.began}
                if len(found.seen) == len(left)
                else position.sought,
            )

    def _to_seek(self) -> list[Cell]:
        """The cells of whose sent batches some are not landed, and were not all looked at for long."""
        waiting = {cell_of(key) for key, sent in self.position.open.items() if sent}
        waiting -= {cell for cell, names in self.names.items() if not names.waiting}
        waiting |= {cell for cell, names in self.names.items() if names.waiting}
        declared = self.catalog.collections
        return sorted(cell for cell in waiting if cell[0] in declared and self.position.is_sought(cell))

    def _look_at(self, cells: Iterable[Cell]) -> None:
        fresh = sorted({cell for cell in cells if cell not in self.names})
        self.names.update(
            zip(fresh, in_parallel(lambda cell: read_names(self.store, *cell), fresh, _CELLS_AT_ONCE), strict=True)
        )

    def work(self) -> PendingWork:
        """What the looks gave, cell by cell."""
        finished: dict[Cell, list[str]] = {}
        late: dict[Cell, list[str]] = {}
        for some in self.batches.values():
            for cell in self._cells_of(some[0]):
                names = self.names[cell]
                if not requests_of(some[0], cell[0]) & names.asked or _any_landed(some, names):
                    continue
                # Of duplicates only one ever is landed.
                if all(b.ended for b in some):
                    finished.setdefault(cell, []).extend(b.id for b in some)
                if not requests_of(some[0], cell[0]) & names.given_up:
                    late.setdefault(cell, []).extend(b.id for b in some if is_late(b))
        for cell, looked_up in self.by_id.items():
            finished.setdefault(cell, []).extend(looked_up.finished)
            late.setdefault(cell, []).extend(looked_up.late)
        found: list[PendingCell] = []
        opened, counts, left = dict(self.position.open), dict(self.position.again), list(self.position.left)
        for cell, names in sorted(self.names.items(), key=lambda item: item[0][1], reverse=True):
            key = key_of(cell)
            again, sure = self._again(names, counts)
            if not sure:
                left.append(cell)
            # An intent of another kind is never sent; its records are among those that are asked again.
            unsent = tuple(i for i in names.unsent if i not in self._others(names, names.unsent))
            forgotten = tuple(self.by_id[cell].forgotten) if cell in self.by_id else ()
            one = PendingCell(
                *cell,
                tuple(sorted(finished.get(cell, ()))),
                unsent,
                again,
                forgotten,
                tuple(late.get(cell, ())),
                tuple(sorted(_hurt(names, self.by_id.get(cell)))),
            )
            if one.something:
                found.append(one)
            opened.pop(key, None)
            if names.waiting or one.something or counts.get(key, ("", 0, 0.0))[1]:
                opened[key] = names.waiting
        position = replace(
            self.position,
            not_before=0.0,
            over=self.position.listed and not left and not self._to_seek(),
            left=tuple(left),
            open=opened,
            again={key: value for key, value in counts.items() if cell_of(key)[1] >= self.since or value[1]},
            sought={key: at for key, at in self.position.sought.items() if opened.get(key)},
        )
        if position.over:
            position = replace(position, seen=())
        recorded = {request_id for names in self.names.values() for request_id in names.asked}
        return PendingWork(
            tuple(sorted(found, key=lambda one: (one.collection, one.day))),
            self.position.under_way,
            tuple(undiscovered(self.store, self.catalog, self.others, recorded)),
            tuple(b for some in self.batches.values() for b in _doubled(some, self.store_id)),
            self.names,
            position,
            self.trouble,
            Counter(
                name
                for b in self.others
                if creator_of(b, self.store_id) == "own"
                and (name := b.metadata.get(COLLECTION_KEY, "")) not in self.catalog.collections
            ),
        )

    def _again(self, names: CellNames, counts: dict[str, tuple[str, int, float]]) -> tuple[int, bool]:
        """How many records are to be asked again; and whether that is sure, or there was no time to count."""
        key = key_of((names.collection, names.day))
        if not names.asked:
            counts.pop(key, None)
            return 0, True
        spec, now = self.catalog.get(names.collection), layout.now().timestamp()
        state = f"{names.state} {spec.attempts} {spec.model} {spec.dimensions}"
        before = counts.get(key)
        # Where nothing was to be asked again, nothing is as long as nothing was asked or landed.
        if before is not None and before[0] == state and (not before[1] or 0 <= now - before[2] < _COUNTED_SECONDS):
            return max(0, before[1]), True
        if self.counted and self.budget.time_is_up:
            return 0, False
        self.counted = True
        if not names.leaves_over:
            if (other := self._asks_otherwise(names)) is None:
                return 0, False
            if not other:
                counts[key] = (state, 0, now)
                return 0, True
        newest = partial(latest_content, self.store, spec.name, since=names.day)
        standing = read_standing(self.store, spec, names.day, lambda: newest().digests)
        left = [place for place in standing.places.values() if place.kind == "again"]
        count, paused = sum(place.due for place in left), [place.not_before for place in left if not place.due]
        # None yet is -1: unlike 0, that does not stay so by itself. It is counted again when the next is due.
        counts[key] = (state, count or -bool(paused), min([now, *(at - _COUNTED_SECONDS for at in paused)]))
        return count, True

    def _asks_otherwise(self, names: CellNames) -> bool | None:
        """Whether any request of a cell is of another kind than the collection's; None: there was no time to see."""
        asked = sorted(names.asked)
        for part in slices(len(asked), _REQUESTS_AT_ONCE):
            if part.start and self.budget.time_is_up:
                return None
            if self._others(names, asked[part]):
                return True
        return False

    def _others(self, names: CellNames, requests: Iterable[str]) -> frozenset[str]:
        """Which of a cell's requests are of another kind than the collection's; each is read once."""
        return others_among(self.store, self.catalog.get(names.collection), names.day, requests)


def _any_landed(batches: list[ApiBatch], names: CellNames) -> bool:
    return any(layout.part(batch.id) in names.landed for batch in batches)


def _hurt(names: CellNames, looked_up: LookedUp | None) -> set[str]:
    found = names.hurt | (looked_up.damaged if looked_up else set())
    return {*found, f"{len(names.landed)} landed, {len(names.sent)} sent"} if names.unasked else {*found}


def _doubled(batches: list[ApiBatch], store_id: str) -> list[ApiBatch]:
    """Those that may have to be cancelled: only what was certainly created for this store ever is."""
    own = [b for b in batches if creator_of(b, store_id) == "own"]
    unfinished = [b for b in own if not b.ended and b.status != "cancelling"]
    return unfinished if len(own) > 1 else []
