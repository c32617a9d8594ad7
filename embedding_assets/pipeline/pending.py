"""What there is to do, for sensors and for people: cells to run, collections to compact."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.discover import discover
from embedding_assets.batches.pending import pending_cells
from embedding_assets.batches.pending_work import PendingWork
from embedding_assets.batches.position import Budget, Cell, Position
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.pipeline.kinds import catalog_as_held
from embedding_assets.pipeline.undelivered import (
    declared_by_now,
    quarantined_cells,
    quarantined_state,
    undelivered,
    without_landing,
)
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.planning import plan_compaction

_FOREIGN_AT_ONCE = 4  # whose input files are fetched side by side


@dataclass(frozen=True)
class CellToRun:
    """A cell with something to do, and why.

    Attributes:
        state: changes whenever there is something else to do; equal states need no second run.
        reasons: in words.
        ask: whether something is to be asked (again), so that `embedding_requests` has work as well.
        once: whether a run that ended well has done what can be done, so that none follows it.
    """

    collection: str
    day: str
    state: str
    reasons: tuple[str, ...]
    ask: bool
    once: bool = False


def cells_to_run(
    api: EmbeddingApi,
    store: ObjectStore,
    catalog: Catalog,
    *,
    position: Position | None = None,
    budget: Budget | None = None,
) -> tuple[list[CellToRun], PendingWork]:
    """The cells with finished batches, unsent requests, records to be asked again, or landed batches without a delta.

    Batches of other programs that are new to us are given their records on the way; each is looked into once.

    Args:
        position: where the look before stopped, from the `PendingWork` that it gave; without one, everything is
            looked at.
        budget: how much this look may do; all that there is unless given.

    Raises:
        ApiError, ApiUnavailableError, StoreError: the API or the store cannot be listed.
    """
    position, budget = position or Position(), budget or Budget()
    also: list[Cell] = []
    if position.over:
        quarantined = quarantined_state(store, catalog)
        if position.full_is_due or position.quarantined != quarantined:
            also = quarantined_cells(store, catalog)
        position = replace(position, quarantined=quarantined)
    declared, catalog = catalog, catalog_as_held(store, catalog)
    # Nothing is asked under a declaration that does not fit; what was asked before is landed and built all the same.
    refused = {spec.name for spec in declared if spec.vectors != catalog.get(spec.name).vectors}
    work = pending_cells(api, store, catalog, position=position, budget=budget, also=also)
    if work.foreign or work.doubled:
        work = _discover(api, store, catalog, work, budget)
    reasons: dict[Cell, list[str]] = {}
    marks: dict[Cell, list[str]] = {}
    ask: set[Cell] = set()
    once: dict[Cell, int] = {}  # how many reasons are no reason for a second run

    def note(cell: Cell, reason: str, mark: Iterable[str]) -> None:
        reasons.setdefault(cell, []).append(reason)
        marks.setdefault(cell, []).extend(mark)

    for one in work.cells:
        cell = (one.collection, one.day)
        if one.finished:
            # Not their ids: while a run has landed none of these yet, others that finish need no run of their own.
            note(cell, f"{len(one.finished)} batches have finished", [work.names[cell].state])
        if one.forgotten:
            count = len(one.forgotten)
            said = "1 batch is" if count == 1 else f"{count} batches are"
            note(cell, f"{said} unknown to the API", [work.names[cell].state])
        if one.late:
            count = len(one.late)
            said = "1 batch has" if count == 1 else f"{count} batches have"
            # By name: one run says it in its check, and that is told.
            once[cell] = once.get(cell, 0) + 1
            note(cell, f"{said} not ended long after the end of the window", [f"late {x}" for x in sorted(one.late)])
        if one.hurt:
            # One run mends what can be mended.
            once[cell] = once.get(cell, 0) + 1
            note(cell, "records of what was asked are damaged or gone", [f"hurt {x}" for x in one.hurt])
        if one.collection in refused:
            continue
        if one.unsent:
            note(cell, f"{len(one.unsent)} requests are not sent", one.unsent)
            ask.add(cell)
        if one.again:
            note(cell, f"{one.again} records are to be asked again", [f"again {one.again}"])
            ask.add(cell)
    for cell, names in work.names.items():
        landings = undelivered(store, names, catalog.get(names.collection))
        if landings:
            note(cell, f"{len(landings)} landed batches are in no delta", landings)
        gone = without_landing(store, names, catalog.get(names.collection))
        if gone:
            said = "1 batch" if len(gone) == 1 else f"{len(gone)} batches"
            once[cell] = once.get(cell, 0) + 1  # one run lands again what can be landed
            note(cell, f"the landing of {said} in a delta is gone", [f"gone {one}" for one in gone])
        named = declared_by_now(store, names, catalog.get(names.collection))
        if named:
            said = "1 batch" if len(named) == 1 else f"{len(named)} batches"
            once[cell] = once.get(cell, 0) + 1  # where the API no longer has the files, nothing comes of it
            note(cell, f"records of {said} were rejected for the name of a model that is declared by now", named)
    cells = [
        CellToRun(*cell, _digest(marks[cell]), tuple(why), cell in ask, once=len(why) == once.get(cell))
        for cell, why in sorted(reasons.items())
    ]
    return cells, replace(work, position=work.position.with_open(reasons))


def _discover(
    api: EmbeddingApi, store: ObjectStore, catalog: Catalog, work: PendingWork, budget: Budget
) -> PendingWork:
    """Give new batches of other programs their records, as many as there is time for; then look once more."""
    left, looked_into = work.foreign, False
    claimed: list[Cell] = []
    while not looked_into or (left and not budget.time_is_up):
        # Twins of our own batches are cancelled on the way.
        listed = left[:_FOREIGN_AT_ONCE] if looked_into else (*work.doubled, *left[:_FOREIGN_AT_ONCE])
        found = discover(api, store, catalog, listed=listed)
        claimed += [(one.collection, one.day) for one in found.claimed if one.collection]
        left, looked_into = left[_FOREIGN_AT_ONCE:], True
    position = work.position.with_open(claimed, sent=True)
    if left:
        # The list has gone on meanwhile: the rest is found by a round of everything.
        return replace(work, position=replace(position, full_at=0.0))
    if not claimed or not position.over or budget.time_is_up:
        return replace(work, position=position)
    again = pending_cells(api, store, catalog, position=position, budget=budget)
    before = tuple(cell for cell in work.cells if (cell.collection, cell.day) not in again.names)
    return replace(again, cells=(*before, *again.cells), names={**work.names, **again.names})


@dataclass(frozen=True)
class CompactionDue:
    """A collection whose snapshot lacks deltas or is damaged, or that has legacy data to look at.

    Attributes:
        missing: how many it lacks.
        state: changes whenever the snapshot or what it lacks does.
        due: whether it is time, by the collection's `compaction` settings.
        reason: in words.
    """

    collection: str
    missing: int
    state: str
    due: bool
    reason: str


def compaction_due(store: ObjectStore, spec: CollectionSpec, at: datetime | None = None) -> CompactionDue | None:
    """Whether a collection is to be compacted; None where its snapshot lacks nothing.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    plan = plan_compaction(store, spec)
    if not plan.due:
        return None
    oldest = min((made for ref in plan.missing if (made := layout.time_of(ref.id))), default=None)
    minutes = ((at or layout.now()) - oldest).total_seconds() / 60 if oldest else float("inf")
    rule = spec.compaction
    count = len(plan.missing)
    due = count >= rule.after_deltas or minutes >= rule.after_minutes
    reason = f"its snapshot lacks {count} deltas, the oldest {minutes:.0f} minutes old"
    if not plan.missing or plan.problems or plan.behind or plan.resharded:
        # What is damaged or has never been looked at does not wait for anything.
        due = True
        parts = [*plan.problems, *(f"legacy data in {folder.prefix}" for folder in plan.legacy)]
        if plan.current and plan.behind:
            parts.append("the pointer does not name its snapshot")
        if plan.resharded and plan.base:
            parts.append(f"its snapshot has {len(plan.base.parts)} shards, and is to have {spec.shards}")
        reason = "; ".join(parts) or f"its snapshot {plan.base.id if plan.base else ''} is not committed"
    if not due:
        reason += f"; compaction is due after {rule.after_deltas} deltas or {rule.after_minutes:g} minutes"
    base = plan.base.id if plan.base else "none"
    legacy = [f"{folder.prefix} {folder.modified.isoformat()}" for folder in plan.legacy]
    return CompactionDue(
        spec.name,
        count,
        _digest([base, str(plan.behind), str(spec.shards), *plan.problems, *(ref.id for ref in plan.missing), *legacy]),
        due,
        reason,
    )


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:16]
