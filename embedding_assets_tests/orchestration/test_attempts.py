"""Runs that fail are asked for again, now and then after an alert, and begin anew with a launch by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg
import pytest

from embedding_assets.orchestration.attempts import request_run
from embedding_assets.pipeline.attempts import ATTEMPTS
from embedding_assets.store.objects import open_store
from embedding_assets_tests.orchestration.alarms import DAYS, Alarms
from embedding_assets_tests.receivers import Webhook, webhook

pytestmark = pytest.mark.dagster
DAY = DAYS[3]
LONG = 4000.0  # longer than the longest pause


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


def ask(alarms: Alarms, hours: float, state: str = "state") -> dg.RunRequest | str:
    """What is asked for, so long from now."""
    deltas = [dg.AssetKey("deltas")]
    later = time.time() + hours * LONG
    return request_run(alarms.instance, "embed_cell", deltas, f"lines|{DAY}", state, "a batch", now=later)


def test_a_run_that_always_fails_is_told_as_given_up_and_is_tried_now_and_then(
    instance: dg.DagsterInstance, hook: Webhook
) -> None:
    alarms = Alarms(instance, open_store("memory://"), hook.url)
    alarms.faults.crash.add(f"lines|{DAY}")
    keys = []
    for number in range(1, ATTEMPTS + 1):
        request = ask(alarms, 1)
        assert isinstance(request, dg.RunRequest)
        keys.append(request.run_key)
        alarms.run(DAY, tags=dict(request.tags))
        alarms.look()
        if number < ATTEMPTS:
            assert f"attempt {number + 1} of {ATTEMPTS} is due at" in str(ask(alarms, 0))
    assert len(set(keys)) == ATTEMPTS  # a key that was there would be dropped by the daemon
    assert "6 attempts have failed; the next one is due at" in str(ask(alarms, 10))
    assert isinstance(ask(alarms, 13), dg.RunRequest)
    assert hook.titles == [
        f"[lines {DAY}] step deltas failed (ERROR)",
        f"[lines {DAY}] step deltas was given up",
    ]
    assert isinstance(ask(alarms, 1, "another state"), dg.RunRequest)

    alarms.run(DAY)  # by hand: it fails as well, but the attempts begin anew
    again = ask(alarms, 1)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key not in keys
    alarms.faults.crash.clear()
    alarms.run(DAY, tags=dict(again.tags))
    alarms.look()
    assert hook.titles[2:] == [f"[lines {DAY}] step deltas recovered"]


def test_runs_of_other_partitions_and_jobs_do_not_count(instance: dg.DagsterInstance) -> None:
    alarms = Alarms(instance, open_store("memory://"), "")
    alarms.faults.crash.add(f"lines|{DAYS[4]}")
    alarms.run(DAYS[4])
    alarms.audit()
    request = ask(alarms, 0)
    assert isinstance(request, dg.RunRequest)
    assert (request.partition_key, request.tags["embedding_assets/reason"]) == (f"lines|{DAY}", "a batch")
