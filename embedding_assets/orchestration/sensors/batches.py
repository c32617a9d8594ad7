"""The sensor that asks for the cells in which batches have finished."""

import time
from collections.abc import Mapping, Sequence

import dagster as dg

from embedding_assets.batches.pending_work import PendingWork
from embedding_assets.batches.position import Budget, Position
from embedding_assets.catalog import Catalog
from embedding_assets.errors import ApiUnavailableError, EmbeddingAssetsError
from embedding_assets.orchestration.attempts import request_run
from embedding_assets.orchestration.jobs import CELL_ASSETS, CELL_JOB
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_key, is_cell
from embedding_assets.pipeline.pending import CellToRun, cells_to_run
from embedding_assets.store import layout

# What one tick may do; the next one goes on. A page takes OpenAI about a third of a second.
_PAGES = 20
_SECONDS = 1.0
# A tick does not wait for an API that does not answer: there will be another tick.
_TIMEOUT_SECONDS = 10.0


def build_finished_batches(
    catalog: Catalog, names: Names, status: dg.DefaultSensorStatus, seconds: int
) -> dg.SensorDefinition:
    job, every = names.of(CELL_JOB), [names.asset(name) for name in CELL_ASSETS]

    @dg.sensor(
        name=names.of("finished_batches"),
        job_name=job,
        required_resource_keys={names.store, names.api},
        default_status=status,
        minimum_interval_seconds=seconds,
        description="Reads the API's list of batches, from the newest back to what is still under way, and asks for "
        "the cells in which some have finished. Looks at everything once an hour.",
    )
    def finished_batches(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        position = Position.parse(context.cursor)
        if layout.now().timestamp() < position.not_before:
            return dg.SkipReason(f"the API asked to be left alone until {_clock(position.not_before)}")
        try:
            client = names.api_in(context).client(retries=0, timeout=_TIMEOUT_SECONDS)
            budget = Budget(_PAGES, _SECONDS)
            cells, work = cells_to_run(
                client, names.store_in(context).open(), catalog, position=position, budget=budget
            )
        except ApiUnavailableError as error:
            waiting = position.after_waiting(error.retry_after or 0.0)
            return dg.SensorResult(skip_reason=str(error), cursor=waiting.to_text())
        except EmbeddingAssetsError as error:
            if error.recoverable:
                return dg.SkipReason(str(error))
            raise
        position = work.position
        if work.trouble is not None:
            context.log.warning(str(work.trouble))
            position = position.after_waiting(work.trouble.retry_after or 0.0)
        alone = _left_alone(catalog, cells, work.undeclared)
        if alone:
            context.log.warning(alone)
        cells = [cell for cell in cells if is_cell(catalog, cell.collection, cell.day)]
        if not cells:
            return dg.SensorResult(
                skip_reason="; ".join(filter(None, [alone, _nothing(work)])), cursor=position.to_text()
            )
        asked = [
            request_run(
                context.instance,
                job,
                every,
                cell_key(cell.collection, cell.day),
                cell.state,
                "; ".join(cell.reasons),
                selection=every if cell.ask else every[1:],
                once=cell.once,
            )
            for cell in cells
        ]
        requests = [one for one in asked if isinstance(one, dg.RunRequest)]
        not_now = "; ".join([*(one for one in asked if isinstance(one, str)), *([alone] if alone else [])])
        return dg.SensorResult(
            run_requests=requests, skip_reason=None if requests else not_now, cursor=position.to_text()
        )

    return finished_batches


def _left_alone(catalog: Catalog, cells: Sequence[CellToRun], undeclared: Mapping[str, int]) -> str:
    """Which cells the configuration no longer names, so that Dagster has no partition for them; and which batches."""
    days: dict[str, list[str]] = {}
    for cell in cells:
        if not is_cell(catalog, cell.collection, cell.day):
            days.setdefault(cell.collection, []).append(cell.day)
    said = []
    for collection, left in sorted(days.items()):
        many = f"{len(left)} days" if len(left) > 1 else left[0]
        why = (
            f"is outside of the days from `start` ({catalog.start}) to today"
            if collection in catalog.names
            else "belongs to a collection that is not declared"
        )
        said.append(f"{collection}: {many} with work is left alone, as it {why}; declare it again to go on with it")
    for collection, count in sorted(undeclared.items()):
        many, are = ("1 batch", "is") if count == 1 else (f"{count} batches", "are")
        said.append(f"{many} of {collection}, which is not declared, {are} left alone; declare it again to go on")
    return "; ".join(said)


def _nothing(work: PendingWork) -> str:
    """Why no run is asked for."""
    if work.trouble is not None:
        return str(work.trouble)
    if work.position.over:
        return f"no batch has finished since; {work.in_flight} are under way"
    return f"looked at {len(work.names)} cells and {work.in_flight} batches under way, none has finished; more are left"


def _clock(at: float) -> str:
    return f"{layout.day_of(at)} {time.strftime('%H:%M:%S', time.gmtime(at))} UTC"
