"""Compactions that first make again what is gone, so that no version holds less than the one before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedding_assets.catalog import CollectionSpec
from embedding_assets.pipeline.cells import Log
from embedding_assets.pipeline.findings import Findings, Planned, Row
from embedding_assets.pipeline.gone import MadeAgain, find_gone, make_again
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import log_end
from embedding_assets.vectorstore.compact import Compaction, compact
from embedding_assets.vectorstore.gone import RecordsWouldGoError, claimed, gone_deltas
from embedding_assets.vectorstore.planning import plan_compaction


def compact_or_make_again(
    store: ObjectStore,
    spec: CollectionSpec,
    *,
    run_id: str,
    scratch: Path,
    log: Log = lambda message: None,
    every_delta: bool = False,
    cache_folder: Path | None = None,
    without: Sequence[str] = (),
    again: tuple[str, ...] = (),
) -> Compaction | None:
    """`compact`; where the new version would hold less because deltas are gone, these are made again of their landings.

    Raises:
        RecordsWouldGoError: not all of them could be; nothing was committed.
        Others as `compact`.
    """

    def once(leave_out: Sequence[str]) -> Compaction | None:
        return compact(
            store,
            spec,
            run_id=run_id,
            scratch=scratch,
            log=log,
            every_delta=every_delta,
            without=leave_out,
            cache_folder=cache_folder,
            again=again,
        )

    try:
        return once(without)
    except RecordsWouldGoError as error:
        log(str(error))
        made = make_again(store, spec, run_id=run_id, scratch=scratch, log=log)
        if not made.built and not made.settled:
            raise
        return once((*without, *made.settled))


def compacted(
    store: ObjectStore,
    spec: CollectionSpec,
    *,
    run_id: str,
    scratch: Path,
    every_delta: bool = False,
    without: Sequence[str] = (),
    again: tuple[str, ...] = (),
) -> Findings:
    """`compact_or_make_again`, and what it did in rows."""
    done = compact_or_make_again(
        store, spec, run_id=run_id, scratch=scratch, every_delta=every_delta, without=without, again=again
    )
    return in_rows(spec, done)


def in_rows(spec: CollectionSpec, done: Compaction | None) -> Findings:
    """What a compaction did."""
    if done is None:
        return Findings(spec.name, (), "there is nothing to make a snapshot of")
    rows: list[Row] = [
        {"action": "quarantined" if one.moved else "gone", "name": one.name, "reason": one.reason}
        for one in done.damages
    ]
    rows += [{"action": one.action, "name": one.folder, "reason": one.reason} for one in done.adoptions]
    if done.manifest is None:
        return Findings(spec.name, tuple(rows), "there is nothing to make a snapshot of")
    if done.merged:
        rows.append({"action": "committed", "name": done.manifest.id, "records": done.manifest.count})
    return Findings(spec.name, tuple(rows), f"snapshot {done.manifest.id} holds {done.manifest.count} records")


def rebuild_snapshot(
    store: ObjectStore, spec: CollectionSpec, *, run_id: str, scratch: Path, force: bool = False
) -> Planned:
    """Make the next snapshot from all deltas, starting from nothing; until then the current one stays.

    Deltas that are gone are made again before, of their landings and of the current snapshot. Where something of them
    is left nowhere, nothing is done unless it is forced.
    """
    plan = plan_compaction(store, spec, rebuild=True)
    gone = find_gone(store, spec, scratch, quarantined=True)
    rows: list[Row] = [
        {"action": "make again", "name": one.delta.id, "day": one.day, "reason": str(one)}
        for one in gone
        if one.sources
    ]
    rows += [{"action": "merge", "name": ref.id, "day": ref.day} for ref in plan.missing]
    lost = [one for one in gone if one.lost or not one.sources]
    rows += [{"action": "leave out", "name": one.delta.id, "day": one.day, "reason": str(one)} for one in lost]
    warning = ""
    if lost:
        said = "; ".join(str(one) for one in lost)
        warning = f"{said}. It is not rebuilt without --force, by which this is left out"

    def execute() -> Findings:
        made = again()
        try:
            found = in_rows(spec, rebuilt(made.settled))
        except RecordsWouldGoError:
            # Deltas turned out damaged and were moved aside on the way: these are made again as well.
            more = again()
            made = MadeAgain((*made.rows, *more.rows), (*made.settled, *more.settled))
            found = in_rows(spec, rebuilt(made.settled))
        return Findings(spec.name, (*made.rows, *found.rows), found.summary)

    def again() -> MadeAgain:
        return make_again(store, spec, run_id=run_id, scratch=scratch, quarantined=True)

    def rebuilt(settled: Sequence[str]) -> Compaction | None:
        claims = claimed(store, spec.name, log_end(store, spec.name))
        lost = [one.id for one in gone_deltas(store, spec.name, claims)] if force else []
        if force and claims.version:
            lost.append(claims.version)  # it may hold more records of the same deltas than can be made again
        return compact(store, spec, run_id=run_id, scratch=scratch, rebuild=True, without=[*settled, *lost])

    return Planned(spec.name, tuple(rows), execute, warning)
