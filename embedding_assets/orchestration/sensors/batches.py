"""The sensor that asks for the cells in which batches have finished."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources as objects.
import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.orchestration.jobs import CELL_JOB
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_key
from embedding_assets.orchestration.sensors.run_keys import bucket
from embedding_assets.pipeline.pending import cells_to_run

_CELL_STEPS = ("batch_results", "deltas")


def build_finished_batches(
    catalog: Catalog, names: Names, status: dg.DefaultSensorStatus, seconds: int
) -> dg.SensorDefinition:
    @dg.sensor(
        name=names.of("finished_batches"),
        job_name=names.of(CELL_JOB),
        required_resource_keys={names.store, names.api},
        default_status=status,
        minimum_interval_seconds=seconds,
        description="Lists the API's batches and asks for the cells in which some have finished.",
    )
    def finished_batches(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            cells, work = cells_to_run(names.api_in(context).client(), names.store_in(context).open(), catalog)
        except EmbeddingAssetsError as error:
            if error.recoverable:
                return dg.SkipReason(str(error))
            raise
        if not cells:
            return dg.SkipReason(f"no batch has finished since; {work.in_flight} are under way")
        steps = [names.asset(name) for name in _CELL_STEPS]
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=f"{cell.collection}/{cell.day}/{cell.state}/{bucket()}",
                    partition_key=cell_key(cell.collection, cell.day),
                    asset_selection=[names.asset("embedding_requests"), *steps] if cell.ask else steps,
                    tags={"embedding_assets/reason": "; ".join(cell.reasons)},
                )
                for cell in cells
            ]
        )

    return finished_batches
