"""The steps of one cell: ask, land, build. Each compares what should be with what is, and does the difference."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.kinds import fits, why_aside
from embedding_assets.batches.landing import Landing, counting_landings, fetch_landing
from embedding_assets.batches.requests import read_requests
from embedding_assets.batches.results import BatchRow, CellResults, poll
from embedding_assets.batches.submit import Submission, submit
from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.child import warm_up
from embedding_assets.errors import CorruptedError, EmbeddingAssetsError
from embedding_assets.pipeline.held_records import HeldRecords
from embedding_assets.pipeline.kinds import as_held, require_declared
from embedding_assets.pipeline.landings import damaged_landings, move_landings_aside
from embedding_assets.pipeline.mending import mend_cell
from embedding_assets.scratch import ScratchFolder
from embedding_assets.settings import S3Settings
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.delta import (
    DeltaFailedError,
    DeltaRef,
    LandedBatch,
    build_delta,
    group_batches,
    list_deltas,
    readable_deltas,
)
from embedding_assets.vectorstore.kinds import SetAside
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.transfer import at_once, one_ahead
from embedding_assets.vectorstore.unstorable import in_words

Log = Callable[[str], None]


def submit_cell(
    api: EmbeddingApi, store: ObjectStore, spec: CollectionSpec, day: str, s3: S3Settings | None = None
) -> Submission:
    """Ask for what the cell has not asked for yet: new documents, unfinished requests, what partial batches left.

    Raises:
        ConfigurationError: model, dimension or distance are declared otherwise than the collection holds; nothing was
            asked.
        Others as `submit`.
    """
    require_declared(store, spec)
    mend_cell(store, spec, day, s3=s3)
    return submit(api, store, spec, day, s3=s3)


def land_cell(
    api: EmbeddingApi, store: ObjectStore, spec: CollectionSpec, day: str, forced: frozenset[str] = frozenset()
) -> CellResults:
    """Poll, afresh, the batches of the cell that lack a delta, or the forced ones, and land what has finished.

    A delta whose manifest is damaged is none; `healing.heal_cell`, before this, finds what else is damaged.
    """
    unknown = forced - _batches_of(store, spec, day) if forced else None
    if unknown:
        raise EmbeddingAssetsError(
            f"cell {spec.name} {day}",
            f"has no batches {', '.join(sorted(unknown))}",
            "Choose the partition of the day they were submitted on, or leave `batch_ids` empty.",
        )
    held = as_held(store, spec)
    mend_cell(store, held, day)
    # A landing whose manifest cannot be read is none; at once, so that its batch is landed again in this run.
    move_landings_aside(store, spec.name, damaged_landings(store, spec.name, day, "quick"), run_id="")
    deltas = readable_deltas(store, list_deltas(store, spec.name, day))
    # Where only the distance is another, the delta is built again from what has landed: that has to be whole.
    done = [d for d in deltas if d.vectors == held.vectors or d.distance == held.distance]
    with ScratchFolder("held") as scratch:
        databases = HeldRecords(store, spec.name, day, scratch)
        skip = {entry.batch_id for d in done for entry in d.batches}
        found = poll(api, store, held, day, skip=skip, only=forced, find_held=databases.find)
    move_landings_aside(store, spec.name, found.damaged, run_id="")
    return replace(found, batches=tuple(_set_aside(row, held) for row in found.batches))


def _set_aside(row: BatchRow, held: CollectionSpec) -> BatchRow:
    """A batch's row, with why its landing is set aside, if it is."""
    if row.landing is None or fits(row.landing, held):
        return row
    return replace(row, aside=f"set aside: it {why_aside(row.landing, held)}")


@dataclass(frozen=True)
class CellDeltas:
    """What building a cell's deltas did.

    Attributes:
        built: the new deltas.
        before: those that were there and can be read.
        aside: those and the landings that are set aside, being of another kind than the collection's, in words.
        damaged: landings that were not whole, with the reason; their batches are polled again by the next run.
        failed: groups of batches that could not be built, with the reason; they stay pending.
    """

    built: tuple[Manifest, ...]
    before: tuple[Manifest, ...]
    damaged: dict[str, str]
    failed: tuple[str, ...]
    aside: tuple[str, ...] = ()


def build_cell_deltas(
    store: ObjectStore, spec: CollectionSpec, day: str, *, run_id: str, scratch: Path, log: Log = lambda message: None
) -> CellDeltas:
    """Build deltas of the landings that no delta holds yet.

    Args:
        store, spec, day: the cell.
        run_id: who does it.
        scratch: an existing folder on a disk with room for the cell's largest delta, three times.
        log: told what is done.

    Raises:
        DeltaFailedError: nothing at all could be built; where some could, the rest is in `failed`.
    """
    spec = as_held(store, spec)
    every = readable_deltas(store, list_deltas(store, spec.name, day))
    before = [delta for delta in every if delta.vectors == spec.vectors]
    landings = counting_landings(store, spec.name, day)
    waiting = landings_without_delta(landings, every, spec)
    aside = [str(SetAside(DeltaRef(d.id, day, spec.name), d.vectors, spec.vectors)) for d in every if d not in before]
    aside += [
        f"batch {one.batch_id} is set aside: it {why_aside(one, spec)}"
        for one in landings
        if one.accepted and not fits(one, spec)
    ]
    for said in aside:
        log(said)
    waiting.sort(key=lambda landing: (landing.created_at, landing.batch_id))
    built: list[Manifest] = []
    damaged: dict[str, str] = {}
    failed: list[DeltaFailedError] = []
    groups = group_batches([landing.accepted for landing in waiting], spec.delta_records)
    if groups:
        warm_up()
    with ScratchFolder("deltas", scratch) as work:

        def fetch(number: int) -> tuple[Path, list[LandedBatch]]:
            folder = work / str(number)
            return folder, _fetch(store, [waiting[position] for position in groups[number]], folder, damaged)

        for folder, batches in one_ahead(fetch, range(len(groups))):
            try:
                if batches:
                    built.append(build_delta(store, spec, day, batches, run_id=run_id, scratch=folder))
                    log(f"delta {built[-1].id}: {built[-1].count} records of {len(batches)} batches")
                    unstorable = [one for entry in built[-1].batches for one in entry.set_aside]
                    if unstorable:
                        log(f"delta {built[-1].id}: {in_words(unstorable)}")
            except DeltaFailedError as error:
                failed.append(error)
                log(str(error))
            finally:
                shutil.rmtree(folder)
    if failed and not built:
        raise failed[0]
    return CellDeltas(tuple(built), tuple(before), damaged, tuple(str(error) for error in failed), tuple(aside))


def landings_without_delta(landings: list[Landing], deltas: list[Manifest], spec: CollectionSpec) -> list[Landing]:
    """The landings with records of the collection's kind that no delta of its kind holds."""
    alike = [delta for delta in deltas if delta.vectors == spec.vectors]
    held = {(entry.batch_id, entry.landing_id) for delta in alike for entry in delta.batches}
    waiting = [landing for landing in landings if landing.accepted and fits(landing, spec)]
    return [landing for landing in waiting if (landing.batch_id, landing.landing_id) not in held]


def _fetch(store: ObjectStore, landings: list[Landing], folder: Path, damaged: dict[str, str]) -> list[LandedBatch]:
    """The landings' records on disk; the damaged ones are named and left out."""

    def fetch(landing: Landing) -> LandedBatch | None:
        try:
            path = fetch_landing(store, landing, folder)
        except CorruptedError as error:
            damaged[landing.batch_id] = error.reason
            return None
        return LandedBatch(landing.batch_id, landing.created_at, landing.landing_id, landing.accepted, path)

    folder.mkdir()
    return [batch for batch in at_once(fetch, landings, threads=16) if batch is not None]


def _batches_of(store: ObjectStore, spec: CollectionSpec, day: str) -> set[str]:
    return {asked.batch.batch_id for asked in read_requests(store, spec.name, day) if asked.batch}
