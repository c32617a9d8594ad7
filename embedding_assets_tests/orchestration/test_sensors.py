"""What the sensors ask for, when they ask for nothing, and what they say of trouble."""

from __future__ import annotations

import socket
import traceback
from dataclasses import replace

import dagster as dg
import pytest

from embedding_assets.batches import client
from embedding_assets.batches.position import Position
from embedding_assets.catalog import Compaction
from embedding_assets.errors import ApiError, ConfigurationError, StoreDeniedError
from embedding_assets.orchestration.jobs import CELL_JOB, COMPACTION_JOB
from embedding_assets.orchestration.resources import ApiResource, StoreResource
from embedding_assets.orchestration.sensors import batches
from embedding_assets.sandbox import BatchFault, HttpFault
from embedding_assets.vectorstore import shard
from embedding_assets_tests.cells import contents, receipt_lines
from embedding_assets_tests.orchestration.deployment import KEY_VARIABLE, Deployment

pytestmark = [pytest.mark.dagster, pytest.mark.service]


def assets_of(request: dg.RunRequest) -> list[str]:
    return [key.to_user_string() for key in request.asset_selection or ()]


def said(reason: str | None) -> str:
    """What a tick says of its own collections: other tests' cells are copies of one store, and stay undeclared here."""
    return "; ".join(part for part in str(reason).split("; ") if "declare" not in part)


def test_nothing_to_do_is_a_skip_that_says_so_and_changes_nothing(complete: Deployment) -> None:
    before = contents(complete.cell.store)
    tick = complete.tick("finished_batches")
    assert list(tick.requests) == []
    assert said(tick.reason) == "no batch has finished since; 0 are under way"
    tick = complete.tick("lacking_snapshots")
    assert (list(tick.requests), tick.reason) == ([], "no snapshot lacks a delta")
    assert contents(complete.cell.store) == before


def test_batches_under_way_are_no_reason_to_run(fresh: Deployment) -> None:
    fresh.cell.sandbox.set_fault(BatchFault(seconds=600, times=2, metadata={"collection": fresh.cell.spec.name}))
    fresh.cell.submit()
    assert said(fresh.tick("finished_batches").reason) == "no batch has finished since; 2 are under way"
    for batch_id in fresh.cell.batch_ids():
        fresh.cell.api.cancel(batch_id)


def test_finished_batches_ask_for_their_cell_until_it_has_run(fresh: Deployment) -> None:
    fresh.cell.submit()
    fresh.cell.wait()
    tick = fresh.tick("finished_batches")
    (request,) = tick.requests
    assert request.partition_key == fresh.cell_partition
    assert assets_of(request) == ["batch_results", "deltas"]
    assert request.tags["embedding_assets/reason"] == "2 batches have finished"
    assert fresh.tick("finished_batches").states == tick.states

    (result,) = fresh.obey(CELL_JOB, tick)
    assert result.success
    assert not fresh.tick("finished_batches").requests

    tick = fresh.tick("lacking_snapshots")
    (request,) = tick.requests
    assert request.partition_key == fresh.cell.spec.name
    assert fresh.tick("lacking_snapshots").states == tick.states
    (result,) = fresh.obey(COMPACTION_JOB, tick)
    assert result.success
    assert not fresh.tick("lacking_snapshots").requests
    with fresh.cell.read() as lines:
        assert lines.count() == 20


def test_a_landed_batch_without_a_delta_asks_for_its_cell(landed_only: Deployment) -> None:
    tick = landed_only.tick("finished_batches")
    (result,) = landed_only.obey(CELL_JOB, tick)
    assert result.success
    assert not landed_only.tick("finished_batches").requests


def test_what_an_expired_batch_left_asks_for_a_new_request_too(fresh: Deployment) -> None:
    fresh.cell.sandbox.set_fault(
        BatchFault(outcome="expired", finished=4, times=1, metadata={"collection": fresh.cell.spec.name})
    )
    fresh.cell.deliver()
    tick = fresh.tick("finished_batches")
    (request,) = tick.requests
    assert assets_of(request) == ["embedding_requests", "batch_results", "deltas"]
    assert request.tags["embedding_assets/reason"] == "6 records are to be asked again"
    fresh.obey(CELL_JOB, tick)
    fresh.cell.wait()
    after = fresh.tick("finished_batches")
    assert after.states != tick.states
    fresh.obey(CELL_JOB, after)
    assert not fresh.tick("finished_batches").requests
    assert fresh.cell.books().accepted == 20


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_an_api_that_is_down_is_a_skip_that_names_it(complete: Deployment) -> None:
    address = f"http://127.0.0.1:{closed_port()}/v1"
    complete.api = ApiResource(base_url=address, api_key=dg.EnvVar(KEY_VARIABLE))
    tick = complete.tick("finished_batches")
    assert not tick.requests
    assert tick.reason is not None
    assert address in tick.reason
    assert "did not answer" in tick.reason


@pytest.mark.parametrize("status", [429, 503])
def test_an_api_that_is_overloaded_or_failing_is_a_skip_that_names_it(complete: Deployment, status: int) -> None:
    complete.cell.sandbox.set_fault(
        HttpFault(method="GET", path="/v1/batches*", status=status, retry_after=0.01, times=None)
    )
    tick = complete.tick("finished_batches")
    assert not tick.requests
    assert tick.reason is not None
    assert f"the API answered {status}" in tick.reason
    complete.cell.sandbox.clear_faults()
    assert said(complete.tick("finished_batches").reason) == "no batch has finished since; 0 are under way"


def test_an_api_that_asks_to_be_left_alone_is_left_alone(complete: Deployment) -> None:
    service = complete.cell.sandbox
    service.set_fault(HttpFault(method="GET", path="/v1/batches*", status=429, retry_after=600, times=None))
    first = complete.tick_once("finished_batches")
    assert "the API answered 429" in (first.reason or "")
    asked = service.faults()[0]["matched"]
    assert asked == 1  # nor is it asked again within the tick
    second = complete.tick_once("finished_batches", first.cursor)
    assert (second.reason or "").startswith("the API asked to be left alone until 20")
    assert service.faults()[0]["matched"] == asked
    # It keeps on as long as the cursor does; without one it asks again.
    third = complete.tick_once("finished_batches", second.cursor or first.cursor)
    assert third.reason == second.reason
    service.clear_faults()
    assert said(complete.tick("finished_batches").reason) == "no batch has finished since; 0 are under way"


def test_a_tick_that_may_not_do_all_goes_on_in_the_next(fresh: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh.cell.deliver()
    fresh.cell.write(receipt_lines(25))
    fresh.cell.submit()
    fresh.cell.wait()
    whole = fresh.tick("finished_batches")
    # One page of the API's list a tick, and no time for cells that it does not lead to.
    count = sum(1 for _ in fresh.cell.api.list_batches())
    monkeypatch.setattr(client, "PAGE", min(100, -(-count // 4)))
    monkeypatch.setattr(batches, "_PAGES", 1)
    monkeypatch.setattr(batches, "_SECONDS", 0)
    ticks = [fresh.tick_once("finished_batches")]
    while not Position.parse(ticks[-1].cursor).over:
        ticks.append(fresh.tick_once("finished_batches", ticks[-1].cursor))
    assert {state for tick in ticks for state in tick.states} == set(whole.states)
    assert len(whole.states) == 1
    assert len(ticks) > 1
    assert [tick.reason for tick in ticks if "more are left" in (tick.reason or "")]


def test_a_wrong_key_fails_the_sensor_clearly_and_is_not_shown(
    complete: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "sk-wrong-fedcba9876543210"
    monkeypatch.setenv(KEY_VARIABLE, wrong)
    with pytest.raises(ApiError, match=r"the API key is refused .* Check OPENAI_API_KEY") as failure:
        complete.tick("finished_batches")
    assert wrong not in "".join(traceback.format_exception(failure.value))


def test_no_key_at_all_fails_the_sensor_clearly(complete: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    complete.api = ApiResource(base_url=complete.cell.sandbox.base_url)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY: is not set"):
        complete.tick("finished_batches")


@pytest.mark.parametrize("sensor", ["finished_batches", "lacking_snapshots"])
def test_a_store_that_is_not_there_fails_the_sensor_clearly(complete: Deployment, sensor: str) -> None:
    complete.store = StoreResource(url=f"{complete.cell.store.url}/not/there")
    with pytest.raises(ConfigurationError, match="the folder is not there"):
        complete.tick(sensor)


def with_rule(deployment: Deployment, rule: Compaction) -> Deployment:
    spec = deployment.cell.spec.model_copy(update={"compaction": rule})
    return replace(deployment, cell=replace(deployment.cell, spec=spec))


def test_compaction_is_asked_for_after_so_many_deltas(complete: Deployment) -> None:
    deployment = with_rule(complete, Compaction(after_deltas=2, after_minutes=1_000_000))
    deployment.cell.write(receipt_lines(21))
    deployment.cell.deliver()
    waiting = deployment.tick("lacking_snapshots")
    assert not waiting.requests
    assert f"{deployment.cell.spec.name}: its snapshot lacks 1 deltas" in (waiting.reason or "")
    assert "due after 2 deltas" in (waiting.reason or "")

    impatient = with_rule(complete, Compaction(after_deltas=1))
    before = impatient.tick("lacking_snapshots")
    deployment.cell.write(receipt_lines(22))
    deployment.cell.deliver()
    (request,) = deployment.tick("lacking_snapshots").requests
    assert request.partition_key == deployment.cell.spec.name
    assert "its snapshot lacks 2 deltas" in request.tags["embedding_assets/reason"]
    assert impatient.tick("lacking_snapshots").states != before.states  # another delta is another reason


def test_compaction_is_asked_for_after_so_many_minutes(complete: Deployment) -> None:
    deployment = with_rule(complete, Compaction(after_deltas=100, after_minutes=0))
    deployment.cell.write(receipt_lines(21))
    deployment.cell.deliver()
    assert [r.partition_key for r in deployment.tick("lacking_snapshots").requests] == [deployment.cell.spec.name]


def lacking_a_delta(deployment: Deployment) -> Deployment:
    deployment.cell.write(receipt_lines(21))
    deployment.cell.deliver()
    return deployment


def test_compaction_is_not_asked_for_while_a_run_is_queued_whoever_launched_it(complete: Deployment) -> None:
    job = lacking_a_delta(complete).definitions.resolve_job_def(COMPACTION_JOB)
    (first,), (again,) = (complete.tick("lacking_snapshots").requests for _ in range(2))
    assert first.run_key == again.run_key  # so that Dagster makes one run of both
    run = complete.instance.create_run_for_job(job, tags={"dagster/partition": complete.cell.spec.name})
    tick = complete.tick("lacking_snapshots")
    assert not tick.requests
    assert "a run is queued or under way" in (tick.reason or "")
    complete.instance.report_run_canceled(run)
    assert "is due at" in (complete.tick("lacking_snapshots").reason or "")


def test_a_compaction_that_failed_is_tried_again_later_and_somebodys_own_launch_counts_anew(
    complete: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise StoreDeniedError("the store", "refuses", "Correct the credentials.")

    lacking_a_delta(complete)
    tick = complete.tick("lacking_snapshots")
    with monkeypatch.context() as broken:
        broken.setattr(shard, "gather", refuses)
        (result,) = complete.obey(COMPACTION_JOB, tick)
    assert not result.success
    tick = complete.tick("lacking_snapshots")
    assert not tick.requests
    assert "attempt 2 of 6 is due at" in (tick.reason or "")
    assert complete.run_compaction().success
    assert complete.tick("lacking_snapshots").reason == "no snapshot lacks a delta"
