"""Sensors and schedules that keep failing are told once, and once when they work again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import pytest
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

from embedding_assets.store.objects import open_store
from embedding_assets_tests.orchestration.alarms import Alarms
from embedding_assets_tests.receivers import Webhook, webhook

pytestmark = pytest.mark.dagster
ERROR = SerializableErrorInfo(
    "a wrapper", [], "SomeError", SerializableErrorInfo("OPENAI_API_KEY: is refused", [], None)
)


@dataclass
class Daemon:
    """The little set on an instance that remembers ticks, with a webhook."""

    alarms: Alarms
    hook: Webhook
    time: float = 1000.0

    def titles(self) -> list[str]:
        """What was told so far, after another look."""
        self.alarms.look()
        return self.hook.titles


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with dg.instance_for_test() as instance, webhook() as hook:
        yield Daemon(Alarms(instance, open_store("memory://"), hook.url), hook)


def ticks(daemon: Daemon, name: str, *statuses: TickStatus, sensor: bool = True) -> None:
    """Ticks of a sensor or a schedule, as the daemon records them."""
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="here"), location_name="here")
    origin = RemoteRepositoryOrigin(location, "__repository__").get_instigator_origin(name)
    kind = InstigatorType.SENSOR if sensor else InstigatorType.SCHEDULE
    data = SensorInstigatorData() if sensor else ScheduleInstigatorData("45 2 * * *")
    state = InstigatorState(origin, kind, InstigatorStatus.RUNNING, data)
    instance = daemon.alarms.instance
    if instance.get_instigator_state(state.instigator_origin_id, state.selector_id) is None:
        instance.add_instigator_state(state)
    for status in statuses:
        daemon.time += 30
        instance.create_tick(
            TickData(
                instigator_origin_id=state.instigator_origin_id,
                instigator_name=name,
                instigator_type=kind,
                status=status,
                timestamp=daemon.time,
                selector_id=state.selector_id,
                run_ids=[],
                error=ERROR if status == TickStatus.FAILURE else None,
            )
        )


def test_a_sensor_that_keeps_failing_is_told_once_and_once_when_it_works_again(daemon: Daemon) -> None:
    ticks(daemon, "finished_batches", TickStatus.SKIPPED, TickStatus.FAILURE, TickStatus.FAILURE)
    assert daemon.titles() == []
    ticks(daemon, "finished_batches", TickStatus.FAILURE)
    assert daemon.titles() == ["sensor finished_batches failed (ERROR)"]
    body = daemon.hook.received[0]["message"]
    assert "OPENAI_API_KEY: is refused" in body
    assert "http://dagster.example.com/locations/__repository__@here/sensors/finished_batches" in body
    ticks(daemon, "finished_batches", TickStatus.FAILURE, TickStatus.STARTED)
    assert len(daemon.titles()) == 1
    ticks(daemon, "finished_batches", TickStatus.SKIPPED)
    assert daemon.titles()[1:] == ["sensor finished_batches recovered"]


def test_schedules_are_looked_at_as_well_and_those_of_others_are_not(daemon: Daemon) -> None:
    ticks(daemon, "daily_audit", *[TickStatus.FAILURE] * 3, sensor=False)
    ticks(daemon, "somebody_elses", *[TickStatus.FAILURE] * 3)
    assert daemon.titles() == ["schedule daily_audit failed (ERROR)"]


def test_a_failure_now_and_then_is_not_told(daemon: Daemon) -> None:
    ticks(daemon, "finished_batches", *[TickStatus.FAILURE, TickStatus.FAILURE, TickStatus.SUCCESS] * 3)
    assert daemon.titles() == []
