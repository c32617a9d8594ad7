"""What there is to do, for sensors and for people: cells to run, collections to compact."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from embedding_assets.batches.balance import DAYS_BACK, PendingWork, pending_cells
from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.discover import discover
from embedding_assets.batches.landing import newest_landings
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.pipeline.cells import landings_without_delta
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.compact import plan_compaction
from embedding_assets.vectorstore.delta import DeltaRef, list_deltas
from embedding_assets.vectorstore.manifest import Manifest, load_manifest
from embedding_assets.vectorstore.quarantine import list_quarantine


@dataclass(frozen=True)
class CellToRun:
    """A cell with something to do, and why.

    Attributes:
        state: changes whenever there is something else to do; equal states need no second run.
        reasons: in words.
        ask: whether something is to be asked (again), so that `embedding_requests` has work as well.
    """

    collection: str
    day: str
    state: str
    reasons: tuple[str, ...]
    ask: bool


def cells_to_run(api: EmbeddingApi, store: ObjectStore, catalog: Catalog) -> tuple[list[CellToRun], PendingWork]:
    """The cells with finished batches, unsent requests, records to be asked again, or landed batches without a delta.

    Batches of other programs that are new to us are given their records on the way; each is looked into once.

    Raises:
        ApiError, ApiUnavailableError, StoreError: the API or the store cannot be listed.
    """
    work = pending_cells(api, store, catalog)
    if work.undiscovered:
        discover(api, store, catalog)
        work = pending_cells(api, store, catalog)
    reasons: dict[tuple[str, str], list[str]] = {}
    marks: dict[tuple[str, str], list[str]] = {}
    ask: set[tuple[str, str]] = set()

    def note(cell: tuple[str, str], reason: str, mark: Iterable[str]) -> None:
        reasons.setdefault(cell, []).append(reason)
        marks.setdefault(cell, []).extend(mark)

    for one in work.cells:
        cell = (one.collection, one.day)
        if one.finished:
            note(cell, f"{len(one.finished)} batches have finished", one.finished)
        if one.unsent:
            note(cell, f"{len(one.unsent)} requests are not sent", one.unsent)
            ask.add(cell)
        if one.again:
            note(cell, f"{one.again} records are to be asked again", [f"again {one.again}"])
            ask.add(cell)
    for spec in catalog:
        for day, batches in _undelivered(store, spec).items():
            note((spec.name, day), f"{len(batches)} landed batches are in no delta", batches)
    cells = [CellToRun(*cell, _digest(marks[cell]), tuple(why), cell in ask) for cell, why in sorted(reasons.items())]
    return cells, work


def _undelivered(store: ObjectStore, spec: CollectionSpec) -> dict[str, list[str]]:
    """Landing ids by day whose records no delta holds: what a run left behind that ended between the two."""
    since = layout.day_of(layout.now().timestamp() - DAYS_BACK * 86_400)
    # However long ago: what was moved aside is to be built again.
    aside = {e.report.day for e in list_quarantine(store, spec.name) if e.report and e.kind == "delta"}
    found: dict[str, list[str]] = {}
    for day in store.folders(layout.results(spec.name)):
        if day < since and day not in aside:
            continue
        deltas = [m for ref in list_deltas(store, spec.name, day) if (m := _delta(store, ref)) is not None]
        held = {(layout.part(entry.batch_id), entry.landing_id) for m in deltas for entry in m.batches}
        # By names alone first: reading hundreds of landings at every look would be too dear.
        if set(_newest_names(store, spec.name, day).items()) <= held:
            continue
        waiting = landings_without_delta(newest_landings(store, spec.name, day), deltas)
        if waiting:
            found[day] = [landing.landing_id for landing in waiting]
    return found


def _newest_names(store: ObjectStore, collection: str, day: str) -> dict[str, str]:
    """Newest landing id by batch, as the keys of a day's landings name them."""
    newest: dict[str, str] = {}
    for item in store.walk(layout.results(collection, day)):
        parts = item.key.split("/")
        if parts[-1] == layout.MANIFEST:
            batch, landing = parts[-3], parts[-2]
            newest[batch] = max(landing, newest.get(batch, ""))
    return newest


@lru_cache(maxsize=20_000)
def _delta(store: ObjectStore, ref: DeltaRef) -> Manifest | None:
    """A delta's manifest, which never changes; None where it is damaged (the check of the deltas reports that)."""
    try:
        return load_manifest(store, ref.key)
    except (CorruptedError, ObjectMissingError):
        return None


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
    plan = plan_compaction(store, spec.name, shards=spec.shards)
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
