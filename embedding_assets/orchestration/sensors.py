"""Sensors: finished batches ask for their cells, snapshots that lack deltas for their compaction."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources as objects.
import time
from collections.abc import Sequence

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.orchestration.jobs import CELL_JOB, COMPACTION_JOB
from embedding_assets.orchestration.partitions import cell_key
from embedding_assets.orchestration.resources import ApiResource, StoreResource
from embedding_assets.pipeline.pending import cells_to_run, compaction_due

# Run keys dedupe for ever, failed runs included: a state that is still there after so long is asked for again.
RETRY_SECONDS = 600
_CELL_STEPS = ("batch_results", "deltas")


def build_sensors(catalog: Catalog, *, running: bool, seconds: int) -> Sequence[dg.SensorDefinition]:
    """The sensors for these collections.

    Args:
        catalog: the collections.
        running: whether they run as soon as the deployment is loaded.
        seconds: how often each looks.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
    return [_finished_batches(catalog, status, seconds), _lacking_snapshots(catalog, status, seconds)]


def _finished_batches(catalog: Catalog, status: dg.DefaultSensorStatus, seconds: int) -> dg.SensorDefinition:
    @dg.sensor(
        job_name=CELL_JOB,
        default_status=status,
        minimum_interval_seconds=seconds,
        description="Lists the API's batches and asks for the cells in which some have finished.",
    )
    def finished_batches(
        context: dg.SensorEvaluationContext, store: StoreResource, api: ApiResource
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            cells, work = cells_to_run(api.client(), store.open(), catalog)
        except EmbeddingAssetsError as error:
            if error.recoverable:
                return dg.SkipReason(str(error))
            raise
        if not cells:
            return dg.SkipReason(f"no batch has finished since; {work.in_flight} are under way")
        steps = [dg.AssetKey(name) for name in _CELL_STEPS]
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=f"{cell.collection}/{cell.day}/{cell.state}/{_bucket()}",
                    partition_key=cell_key(cell.collection, cell.day),
                    asset_selection=[dg.AssetKey("embedding_requests"), *steps] if cell.ask else steps,
                    tags={"embedding_assets/reason": "; ".join(cell.reasons)},
                )
                for cell in cells
            ]
        )

    return finished_batches


def _lacking_snapshots(catalog: Catalog, status: dg.DefaultSensorStatus, seconds: int) -> dg.SensorDefinition:
    @dg.sensor(
        job_name=COMPACTION_JOB,
        default_status=status,
        minimum_interval_seconds=seconds,
        description="Compares committed deltas with the current snapshots and asks for compaction where it is due.",
    )
    def lacking_snapshots(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult | dg.SkipReason:
        requests, waiting = [], []
        try:
            objects = store.open()
            for spec in catalog:
                due = compaction_due(objects, spec)
                if due is None:
                    continue
                if not due.due:
                    waiting.append(f"{spec.name}: {due.reason}")
                    continue
                requests.append(
                    dg.RunRequest(
                        run_key=f"{spec.name}/{due.state}/{_bucket()}",
                        partition_key=spec.name,
                        tags={"embedding_assets/reason": due.reason},
                    )
                )
        except EmbeddingAssetsError as error:
            if error.recoverable and not requests:
                return dg.SkipReason(str(error))
            if not error.recoverable:
                raise
        if not requests:
            return dg.SkipReason("; ".join(waiting) or "no snapshot lacks a delta")
        return dg.SensorResult(run_requests=requests)

    return lacking_snapshots


def _bucket() -> int:
    return int(time.time() // RETRY_SECONDS)
