"""The sensor that asks for compaction where a snapshot lacks deltas."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources as objects.
import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.orchestration.attempts import request_run
from embedding_assets.orchestration.jobs import COMPACTION_JOB
from embedding_assets.orchestration.names import Names
from embedding_assets.pipeline.pending import compaction_due


def build_lacking_snapshots(
    catalog: Catalog, names: Names, status: dg.DefaultSensorStatus, seconds: int
) -> dg.SensorDefinition:
    job, assets = names.of(COMPACTION_JOB), [names.asset("snapshots")]

    @dg.sensor(
        name=names.of("lacking_snapshots"),
        job_name=job,
        required_resource_keys={names.store},
        default_status=status,
        minimum_interval_seconds=seconds,
        description="Compares committed deltas with the current snapshots and asks for compaction where it is due.",
    )
    def lacking_snapshots(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        requests, waiting = [], []
        failed: EmbeddingAssetsError | None = None
        objects = names.store_in(context).open()
        for spec in catalog:
            # Each by itself: what one collection is in trouble with keeps no other from compaction.
            try:
                due = compaction_due(objects, spec)
            except EmbeddingAssetsError as error:
                waiting.append(f"{spec.name}: {error}")
                if not error.recoverable:
                    context.log.error(f"{spec.name}: {error}")  # noqa: TRY400  (its own words say it)
                    failed = failed or error
                continue
            if due is None:
                continue
            asked: dg.RunRequest | str = f"{spec.name}: {due.reason}"
            if due.due:
                asked = request_run(context.instance, job, assets, spec.name, due.state, due.reason)
            if isinstance(asked, dg.RunRequest):
                requests.append(asked)
            else:
                waiting.append(asked)
        if requests:
            return dg.SensorResult(run_requests=requests)
        if failed is not None:
            # Nothing is held up by it, and a tick that fails is told.
            raise failed
        return dg.SkipReason("; ".join(waiting) or "no snapshot lacks a delta")

    return lacking_snapshots
