"""A little set of assets whose checks, steps and sensors fail when told to, with the sensor that tells of it."""

# No `from __future__ import annotations`: Dagster reads the annotations of contexts as objects.

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils.error import SerializableErrorInfo

from embedding_assets.orchestration.alerts.own import Own
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.resources import AlertsResource, StoreResource
from embedding_assets.orchestration.sensors.alerts import build_alerts
from embedding_assets.store.objects import ObjectStore

DAYS = [str(date(2026, 5, 1) + timedelta(days=n)) for n in range(210)]
PARTITIONS = dg.StaticPartitionsDefinition([f"lines|{day}" for day in DAYS])
UI = "http://dagster.example.com"

_TICK_ERROR = SerializableErrorInfo(
    "a wrapper", [], "SomeError", SerializableErrorInfo("OPENAI_API_KEY: is refused", [], None)
)

_stores: dict[str, ObjectStore] = {}


class HeldStore(StoreResource):
    """A store that a test holds in its hands."""

    def open(self) -> ObjectStore:
        return _stores[self.url]


@dataclass
class Faults:
    """What fails just now.

    Attributes:
        error, warning: partitions whose blocking check, or check that warns, fails.
        crash: partitions whose step raises.
        audit: partitions that the audit finds damaged.
        meanwhile: is called when the audit has told what it found, and still runs.
    """

    error: set[str] = field(default_factory=set)
    warning: set[str] = field(default_factory=set)
    crash: set[str] = field(default_factory=set)
    audit: set[str] = field(default_factory=set)
    meanwhile: Callable[[], object] = field(default=lambda: None)


def build_little_set(faults: Faults, names: Names, **resources: Any) -> dg.Definitions:
    """An asset with two checks, a job of it, and an audit that evaluates one of them for every partition."""

    @dg.asset(name="deltas", key_prefix=names.prefix or None, partitions_def=PARTITIONS)
    def deltas(context: dg.AssetExecutionContext) -> None:
        if context.partition_key in faults.crash:
            raise OSError("no space left on device <sda1>")

    @dg.asset_check(asset=deltas, name="deltas_are_whole", blocking=True, partitions_def=PARTITIONS)
    def whole(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        bad = context.partition_key in faults.error
        return dg.AssetCheckResult(passed=not bad, description="delta 7: SHA-256 of data_level0.bin differs")

    @dg.asset_check(asset=deltas, name="results_are_complete", partitions_def=PARTITIONS)
    def complete(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        bad = context.partition_key in faults.warning
        return dg.AssetCheckResult(passed=not bad, severity=dg.AssetCheckSeverity.WARN, description="3 were rejected")

    @dg.op(out={}, name=names.of("verify_everything"))
    def verify_everything() -> Iterator[dg.AssetCheckEvaluation]:
        for partition in PARTITIONS.get_partition_keys():
            yield dg.AssetCheckEvaluation(
                asset_key=deltas.key,
                check_name="deltas_are_whole",
                passed=partition not in faults.audit,
                description="audit: 1 corrupted" if partition in faults.audit else "audit: 1 valid",
                partition=partition,
            )
        faults.meanwhile()

    @dg.job(name=names.of("audit"))
    def audit() -> None:
        verify_everything()

    job = dg.define_asset_job(names.of("embed_cell"), selection=[deltas])
    checks = [whole, complete]
    own = Own.of([deltas], checks, [job.name, audit.name], ["finished_batches", "daily_audit"])
    sensor = build_alerts(names, own, dg.DefaultSensorStatus.RUNNING, 60)
    return dg.Definitions(
        assets=[deltas],
        asset_checks=checks,
        jobs=[job, audit],
        sensors=[sensor],
        resources={"store": HeldStore(url="memory://none"), "alerts": AlertsResource(), **resources},
        executor=dg.in_process_executor,
    )


@dataclass
class Alarms:
    """The little set on an instance, with its alerts in a store and its channels; the daemon's part is played."""

    instance: dg.DagsterInstance
    store: ObjectStore
    channels: str
    per_hour: int = 1000
    names: Names = field(default_factory=Names)
    faults: Faults = field(default_factory=Faults)
    cursor: str | None = None
    said: str = ""
    time: float = field(default_factory=lambda: time.time() - 3600)

    def __post_init__(self) -> None:
        self.definitions = build_little_set(self.faults, self.names)

    def run(self, *days: str, tags: dict[str, str] | None = None) -> None:
        """Run the cells of these days."""
        for day in days:
            self._job("embed_cell", partition_key=f"lines|{day}", tags=tags)

    def audit(self) -> None:
        """Run the audit."""
        self._job("audit")

    def look(self, store: ObjectStore | None = None) -> str:
        """Let the sensor look once; where it dies, its cursor stays as it was, as the daemon does it."""
        url = f"memory://{id(self)}"
        _stores[url] = store or self.store
        resources: dict[str, Any] = {
            "store": HeldStore(url=url),
            "alerts": AlertsResource(channels=self.channels, ui_url=UI, per_hour=self.per_hour),
        }
        with dg.build_sensor_context(
            instance=self.instance, definitions=self.definitions, resources=resources, cursor=self.cursor
        ) as context:
            answer = self.definitions.resolve_sensor_def(self.names.of("alerts")).evaluate_tick(context)
        self.cursor = answer.cursor
        self.said = answer.skip_message or ""
        return self.said

    def ticks(self, name: str, *statuses: str, sensor: bool = True) -> None:
        """Ticks of a sensor or a schedule, as the daemon records them; needs an instance that remembers them."""
        location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="here"), location_name="here")
        origin = RemoteRepositoryOrigin(location, "__repository__").get_instigator_origin(name)
        kind = InstigatorType.SENSOR if sensor else InstigatorType.SCHEDULE
        data = SensorInstigatorData() if sensor else ScheduleInstigatorData("45 2 * * *")
        state = InstigatorState(origin, kind, InstigatorStatus.RUNNING, data)
        if self.instance.get_instigator_state(state.instigator_origin_id, state.selector_id) is None:
            self.instance.add_instigator_state(state)
        for status in statuses:
            self.time += 30
            self.instance.create_tick(
                TickData(
                    instigator_origin_id=state.instigator_origin_id,
                    instigator_name=name,
                    instigator_type=kind,
                    status=TickStatus[status],
                    timestamp=self.time,
                    selector_id=state.selector_id,
                    run_ids=[],
                    error=_TICK_ERROR if status == "FAILURE" else None,
                )
            )

    def _job(self, name: str, **more: Any) -> None:
        self.definitions.resolve_job_def(self.names.of(name)).execute_in_process(
            instance=self.instance, raise_on_error=False, **more
        )
