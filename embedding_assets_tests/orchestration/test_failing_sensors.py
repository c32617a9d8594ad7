"""Sensors and schedules that keep failing are told once, and once when they work again."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from embedding_assets.store.objects import open_store
from embedding_assets_tests.orchestration.alarms import Alarms
from embedding_assets_tests.receivers import Webhook, webhook

pytestmark = pytest.mark.dagster


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture
def alarms(hook: Webhook) -> Iterator[Alarms]:
    """The little set on an instance that remembers ticks."""
    with dg.instance_for_test() as instance:
        yield Alarms(instance, open_store("memory://"), hook.url)


def test_a_sensor_that_keeps_failing_is_told_once_and_once_when_it_works_again(alarms: Alarms, hook: Webhook) -> None:
    alarms.ticks("finished_batches", "SKIPPED", "FAILURE", "FAILURE")
    alarms.look()
    assert hook.titles == []
    alarms.ticks("finished_batches", "FAILURE")
    alarms.look()
    assert hook.titles == ["sensor finished_batches failed (ERROR)"]
    body = hook.received[0]["message"]
    assert "OPENAI_API_KEY: is refused" in body
    assert "http://dagster.example.com/locations/__repository__@here/sensors/finished_batches" in body
    alarms.ticks("finished_batches", "FAILURE", "STARTED")
    alarms.look()
    assert len(hook.titles) == 1
    alarms.ticks("finished_batches", "SKIPPED")
    alarms.look()
    assert hook.titles[1:] == ["sensor finished_batches recovered"]


def test_schedules_are_looked_at_as_well_and_those_of_others_are_not(alarms: Alarms, hook: Webhook) -> None:
    alarms.ticks("daily_audit", "FAILURE", "FAILURE", "FAILURE", sensor=False)
    alarms.ticks("somebody_elses", "FAILURE", "FAILURE", "FAILURE")
    alarms.look()
    assert hook.titles == ["schedule daily_audit failed (ERROR)"]


def test_a_failure_now_and_then_is_not_told(alarms: Alarms, hook: Webhook) -> None:
    alarms.ticks("finished_batches", *["FAILURE", "FAILURE", "SUCCESS"] * 3)
    alarms.look()
    assert hook.titles == []
