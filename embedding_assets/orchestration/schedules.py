"""Schedules: the daily audit, the hourly look at freshness, and new documents daily (off, because they cost money)."""

from __future__ import annotations

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.audit import AUDIT_JOB
from embedding_assets.orchestration.freshness import FRESHNESS_JOB
from embedding_assets.orchestration.jobs import CELL_JOB
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_key
from embedding_assets.store import layout


def build_schedules(catalog: Catalog, names: Names, *, running: bool) -> list[dg.ScheduleDefinition]:
    """The schedules for these collections; `running`: whether those that only look run from the start."""

    @dg.schedule(
        name=names.of("daily_requests"),
        job_name=names.of(CELL_JOB),
        cron_schedule="15 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Submits the documents that were not asked for yet, for every collection, once a day.",
    )
    def daily_requests(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        day = str(layout.now().date())
        if day < str(catalog.start):
            return dg.SkipReason(f"`start` is {catalog.start}: there is no day to ask for yet")
        return [dg.RunRequest(run_key=f"{name}/{day}", partition_key=cell_key(name, day)) for name in catalog.names]

    audit = dg.ScheduleDefinition(
        name=names.of("daily_audit"),
        job_name=names.of(AUDIT_JOB),
        cron_schedule="45 2 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED,
        description="Verifies everything, a seventh of it in full, and repairs what is corrupted.",
    )
    schedules = [daily_requests, audit]
    if any(spec.freshness for spec in catalog):
        schedules.append(
            dg.ScheduleDefinition(
                name=names.of("hourly_freshness"),
                job_name=names.of(FRESHNESS_JOB),
                cron_schedule="35 * * * *",
                execution_timezone="UTC",
                default_status=audit.default_status,
                description="Looks whether every collection is as fresh as its `freshness` expects.",
            )
        )
    return schedules
