"""Puts assets, checks, sensors, schedules, jobs and resources together for one catalog."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource

from embedding_assets.alerts.delivery import PER_HOUR
from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.alert_jobs import build_alert_jobs
from embedding_assets.orchestration.alerts.own import Own
from embedding_assets.orchestration.assets.deltas import build_deltas
from embedding_assets.orchestration.assets.requests import build_embedding_requests
from embedding_assets.orchestration.assets.results import build_batch_results
from embedding_assets.orchestration.assets.snapshots import build_snapshots
from embedding_assets.orchestration.audit import build_audit
from embedding_assets.orchestration.batch_jobs import build_batch_jobs
from embedding_assets.orchestration.checks import build_checks
from embedding_assets.orchestration.freshness import build_freshness_job
from embedding_assets.orchestration.jobs import build_jobs
from embedding_assets.orchestration.look_jobs import build_look_jobs
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.resources import (
    AWS_KEYS,
    AlertsResource,
    ApiResource,
    StoreResource,
    no_password,
    shown,
)
from embedding_assets.orchestration.schedules import build_schedules
from embedding_assets.orchestration.sensors import build_sensors
from embedding_assets.orchestration.sensors.alerts import build_alerts
from embedding_assets.orchestration.sensors.dead_runs import DEAD_RUNS, build_dead_runs
from embedding_assets.orchestration.upkeep_jobs import build_upkeep_jobs
from embedding_assets.settings import Settings


def build_definitions(
    catalog: Catalog,
    resources: Mapping[str, Any],
    *,
    prefix: str = "",
    sensors_running: bool = False,
    sensor_seconds: int = 60,
) -> dg.Definitions:
    """The definitions of one set of collections, to be a code location or a part of one.

    Args:
        catalog: the collections.
        resources: `store` (StoreResource), `api` (ApiResource) and `alerts` (AlertsResource). Where `store` or `api` is
            left out, it is a resource of that name of the project that the set becomes a part of; without `alerts`
            the environment says where alerts go. Where collections have several shards, `between_steps` is the IO
            manager by which the steps that make them tell each other what they did: files of the instance unless
            given, which all machines that run steps must reach.
        prefix: begins the names of everything, so that several sets live side by side; see `Names`.
        sensors_running: whether the sensors run as soon as the location is loaded.
        sensor_seconds: how often each sensor looks.
    """
    between_steps = {"between_steps": dg.FilesystemIOManager()} if catalog.sharded else {}
    resources = {"alerts": AlertsResource(), **between_steps, **resources}
    keys = {name: f"{prefix}_{name}" if prefix else name for name in resources}
    names = Names(prefix, **keys)
    with warnings.catch_warnings():
        # Partitioned checks are a preview in Dagster 1.13; the mapping from cells to collections and references to
        # the code are betas. Without the first one partition masks another's failure; without the second there is no
        # lineage between the two.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        checks = build_checks(catalog, names)
        assets = dg.with_source_code_references(
            [
                build_embedding_requests(catalog, names),
                build_batch_results(catalog, names),
                build_deltas(catalog, names),
                build_snapshots(catalog, names),
            ]
        )
    jobs: list[dg.JobDefinition | dg.UnresolvedAssetJobDefinition] = [
        *build_jobs(catalog, names),
        build_audit(catalog, names),
        *build_look_jobs(catalog, names),
        *build_alert_jobs(names),
        *build_freshness_job(catalog, names),
        *build_upkeep_jobs(catalog, names),
        *build_batch_jobs(catalog, names),
    ]
    schedules = build_schedules(catalog, names, running=sensors_running)
    sensors = build_sensors(catalog, names, running=sensors_running, seconds=sensor_seconds)
    named: list[dg.SensorDefinition | dg.ScheduleDefinition] = [*sensors, *schedules]
    made = [one for one in assets if isinstance(one, dg.AssetsDefinition)]
    own = Own.of(made, checks, (job.name for job in jobs), (*(one.name for one in named), names.of(DEAD_RUNS)))
    status = dg.DefaultSensorStatus.RUNNING if sensors_running else dg.DefaultSensorStatus.STOPPED
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=jobs,
        sensors=[
            *sensors,
            build_alerts(names, own, status, sensor_seconds),
            build_dead_runs(names, own, status, sensor_seconds),
        ],
        schedules=schedules,
        resources={keys[name]: resource for name, resource in resources.items()},
    )


def resources_of(settings: Settings) -> dict[str, Any]:
    """The resources of an environment; secrets are left to boto3's and openai's own resolution at run time."""
    return {
        "store": StoreResource(
            url=no_password("EMBEDDING_ASSETS_STORE", settings.store_url, AWS_KEYS),
            s3=S3Resource(region_name=settings.s3.region_name, endpoint_url=settings.s3.endpoint_url),
            cache=str(settings.cache_folder),
        ),
        "api": ApiResource(base_url=shown(settings.api.base_url)),
        "alerts": AlertsResource(ui_url=settings.alerts.ui_url, per_hour=settings.alerts.per_hour or PER_HOUR),
    }
