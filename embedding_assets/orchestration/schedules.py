"""The schedule that asks for new documents once a day; off until somebody turns it on, because it spends money."""

from __future__ import annotations

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.jobs import CELL_JOB
from embedding_assets.orchestration.partitions import cell_key
from embedding_assets.store import layout


def build_schedules(catalog: Catalog) -> list[dg.ScheduleDefinition]:
    """The schedules for these collections."""

    @dg.schedule(
        job_name=CELL_JOB,
        cron_schedule="15 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Submits the documents that were not asked for yet, for every collection, once a day.",
    )
    def daily_requests(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        day = str(layout.now().date())
        return [dg.RunRequest(run_key=f"{name}/{day}", partition_key=cell_key(name, day)) for name in catalog.names]

    return [daily_requests]
