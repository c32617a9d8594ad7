"""Failures of checks, runs and audits reach the channels: each once, and once when it recovers."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import dagster as dg
import pytest

from embedding_assets.alerts import pace
from embedding_assets.alerts.outbox import Outbox
from embedding_assets.errors import StoreUnavailableError
from embedding_assets.orchestration.alerts import advice, collect
from embedding_assets.orchestration.attempts import ATTEMPT_TAG, LAST_ATTEMPT_TAG
from embedding_assets.orchestration.audit import AUDIT_JOB
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.sensors import alerts as sensor
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.delta import list_deltas
from embedding_assets_tests.orchestration.alarms import Alarms
from embedding_assets_tests.orchestration.deployment import Deployment
from embedding_assets_tests.receivers import Mailbox, Webhook, mailbox, webhook
from embedding_assets_tests.vectorstore.worlds import DyingStore, Killed, flip

pytestmark = pytest.mark.dagster


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture
def mail() -> Iterator[Mailbox]:
    with mailbox() as made:
        yield made


@pytest.fixture
def alarms(instance: dg.DagsterInstance, hook: Webhook) -> Alarms:
    """The little set, with a webhook as its only channel."""
    return Alarms(instance, open_store("memory://"), hook.url)


def test_a_failed_check_is_told_once_and_once_when_it_recovers(alarms: Alarms, hook: Webhook) -> None:
    alarms.faults.error.add("lines|2026-11-03")
    alarms.run("2026-11-03")
    alarms.look()
    assert hook.titles == ["[lines 2026-11-03] deltas_are_whole failed (ERROR)"]
    body = hook.received[0]["message"]
    assert "SHA-256 of data_level0.bin differs" in body
    assert "What happens by itself: The corrupted delta is moved to the quarantine" in body
    assert "What you can do: Nothing, unless" in body
    assert "http://dagster.example.com/assets/deltas?view=checks&checkDetail=deltas_are_whole" in body
    assert f"http://dagster.example.com/runs/{alarms.instance.get_runs()[0].run_id}" in body

    alarms.run("2026-11-03")  # it fails again, which is no news
    alarms.look()
    assert len(hook.received) == 1
    alarms.faults.error.clear()
    alarms.run("2026-11-03")
    alarms.look()
    assert hook.titles[1:] == ["[lines 2026-11-03] deltas_are_whole recovered"]
    assert "It had failed since" in hook.received[1]["message"]
    alarms.run("2026-11-03")
    alarms.look()
    assert len(hook.received) == 2
    assert alarms.said == "nothing has failed or recovered since"


def test_a_warning_of_a_successful_run_is_told_too(alarms: Alarms, hook: Webhook) -> None:
    alarms.faults.warning.add("lines|2026-11-03")
    alarms.run("2026-11-03")
    assert [run.status for run in alarms.instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS]
    alarms.look()
    assert hook.titles == ["[lines 2026-11-03] results_are_complete failed (WARN)"]


def test_partitions_do_not_mask_one_another(alarms: Alarms, hook: Webhook) -> None:
    alarms.faults.error |= {"lines|2026-11-03", "lines|2026-11-04"}
    alarms.run("2026-11-03", "2026-11-04", "2026-11-05")
    alarms.look()
    assert sorted(title[:18] for title in hook.titles) == ["[lines 2026-11-03]", "[lines 2026-11-04]"]
    alarms.faults.error.remove("lines|2026-11-04")
    alarms.run("2026-11-05", "2026-11-04")
    alarms.look()
    assert hook.titles[2:] == ["[lines 2026-11-04] deltas_are_whole recovered"]


def test_all_that_an_audit_finds_is_one_message_and_what_it_finds_healed_another(alarms: Alarms, hook: Webhook) -> None:
    alarms.faults.audit |= {f"lines|2026-11-{day:02d}" for day in range(1, 26)}
    alarms.audit()
    alarms.look()
    (title,) = hook.titles
    assert title.startswith("[lines] 25 failures in run ")
    assert title.endswith(" of audit")
    assert "... and 15 more" in hook.received[0]["message"]
    alarms.faults.audit -= {"lines|2026-11-01", "lines|2026-11-02"}
    alarms.audit()
    alarms.run("2026-11-03")  # a check of a run tells that what an audit found is healed
    alarms.look()
    assert [title.split(" in run")[0] for title in hook.titles[1:]] == [
        "[lines] 2 recoveries",
        "[lines 2026-11-03] deltas_are_whole recovered",
    ]


def test_what_an_audit_finds_is_told_while_it_still_runs_when_the_burst_is_over(
    alarms: Alarms, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarms.faults.audit |= {"lines|2026-11-03", "lines|2026-11-04"}
    seen: list[int] = []

    def meanwhile() -> None:
        alarms.look()
        seen.append(len(hook.received))
        monkeypatch.setattr(collect, "SETTLE_SECONDS", 0.0)
        alarms.look()
        seen.append(len(hook.received))

    alarms.faults.meanwhile = meanwhile
    alarms.audit()
    alarms.look()
    assert seen == [0, 1]
    assert len(hook.received) == 1
    assert hook.titles[0].startswith("[lines] 2 failures in run ")


def test_a_failed_run_is_told_with_its_cause_until_the_step_succeeds(alarms: Alarms, hook: Webhook) -> None:
    alarms.faults.crash.add("lines|2026-11-03")
    alarms.run("2026-11-03", "2026-11-03", tags={ATTEMPT_TAG: "1"})
    alarms.look()
    assert hook.titles == ["[lines 2026-11-03] step deltas failed (ERROR)"]
    assert "OSError: no space left on device <sda1>" in hook.received[0]["message"]
    assert "The sensor asks for it again, after growing pauses" in hook.received[0]["message"]
    alarms.run("2026-11-03", tags={ATTEMPT_TAG: "6", LAST_ATTEMPT_TAG: "true"})
    alarms.look()
    assert hook.titles[1:] == ["[lines 2026-11-03] step deltas was given up"]
    assert "launch the run once by hand" in hook.received[1]["message"]
    alarms.faults.crash.clear()
    alarms.run("2026-11-03")
    alarms.look()
    assert hook.titles[2:] == ["[lines 2026-11-03] step deltas recovered"]


def test_a_run_that_died_without_a_word_is_told(alarms: Alarms, hook: Webhook) -> None:
    job = alarms.definitions.resolve_job_def("embed_cell")
    run = alarms.instance.create_run_for_job(job, tags={"dagster/partition": "lines|2026-11-03"}, asset_selection=None)
    alarms.instance.report_run_failed(run, message="the machine is gone")
    alarms.look()
    (title,) = hook.titles
    assert title == "[lines 2026-11-03] step deltas failed (ERROR)"
    assert "the machine is gone" in hook.received[0]["message"]
    alarms.run("2026-11-03")
    alarms.look()
    assert hook.titles[1:] == ["[lines 2026-11-03] step deltas recovered"]


def test_every_check_of_the_package_has_advice_of_its_own(complete: Deployment) -> None:
    names = {key.name for key in complete.definitions.resolve_asset_graph().asset_check_keys}
    unknown = advice.for_check("somebody_elses", "ERROR")
    assert len(names) > 3
    assert [name for name in sorted(names) if advice.for_check(name, "WARN") == unknown] == []
    assert [name for name in sorted(names) if advice.for_check(name, "ERROR") == unknown] == []


def test_what_somebody_cancelled_is_no_failure_but_its_checks_are(alarms: Alarms, hook: Webhook) -> None:
    run = alarms.instance.create_run_for_job(alarms.definitions.resolve_job_def("audit"))
    alarms.instance.report_run_canceled(run)
    alarms.look()
    assert hook.received == []


def test_runs_and_checks_of_others_are_not_told(alarms: Alarms, hook: Webhook) -> None:
    other = Alarms(alarms.instance, open_store("memory://"), "", names=Names("second"))
    other.faults.error.add("lines|2026-11-03")
    other.faults.audit.add("lines|2026-11-04")
    other.run("2026-11-03")
    other.audit()
    alarms.look()
    assert hook.received == []
    assert "no channel is set" in other.look()
    assert "deltas_are_whole failed" in other.said


def test_several_channels_get_it_each_in_its_own_form(
    instance: dg.DagsterInstance, hook: Webhook, mail: Mailbox
) -> None:
    alarms = Alarms(instance, open_store("memory://"), f"{hook.url} {mail.url}")
    alarms.faults.crash.add("lines|2026-11-03")
    alarms.run("2026-11-03")
    alarms.look()
    assert mail.titles == hook.titles == ["[lines 2026-11-03] step deltas failed (ERROR)"]
    part = mail.received[0].get_body(("html",))
    assert part is not None
    assert "no space left on device &lt;sda1&gt;" in part.get_content()


def test_a_channel_that_is_down_gets_all_when_it_is_up_again_and_keeps_nobody_waiting(
    instance: dg.DagsterInstance, hook: Webhook, mail: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarms = Alarms(instance, open_store("memory://"), f"{hook.url} {mail.url}")
    hook.down()
    for day in ("2026-11-03", "2026-11-04"):
        alarms.faults.error.add(f"lines|{day}")
        alarms.run(day)
        alarms.look()
    assert len(mail.received) == 2
    assert "2 wait for channel 1 (JSON): it does not accept" in alarms.said
    monkeypatch.setattr(pace, "_FIRST_PAUSE", 0.0)
    hook.up()
    alarms.cursor = None  # nor does it matter that the daemon has forgotten everything
    alarms.look()
    kept = "".join(str(alarms.store.get(item.key)) + item.key for item in alarms.store.walk(""))
    for secret in ("hunter2", "T0PSECRET"):
        assert secret not in kept + alarms.said + str(alarms.cursor)
    assert hook.titles == mail.titles
    alarms.look()
    assert (len(hook.received), len(mail.received)) == (2, 2)


def test_an_entry_that_is_no_channel_is_told_by_the_others_without_its_secrets(
    instance: dg.DagsterInstance, hook: Webhook
) -> None:
    alarms = Alarms(instance, open_store("memory://"), f"{hook.url} nonsense://hunter3-password@host")
    alarms.look()
    assert hook.titles == ["channel 2 failed (ERROR)"]
    alarms.look()
    assert len(hook.received) == 1
    alarms.channels = hook.url + " " + hook.url.replace("T0PS", "0THER")
    alarms.look()
    assert "channel 2 recovered" in hook.titles
    assert "hunter" not in str(hook.received) + alarms.said


def test_a_backlog_is_worked_off_look_by_look(alarms: Alarms, hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "RUNS_AT_ONCE", 1)
    days = ["2026-11-03", "2026-11-04", "2026-11-05"]
    alarms.faults.error |= {f"lines|{day}" for day in days}
    alarms.run(*days)
    monkeypatch.setattr(collect, "BUDGET_SECONDS", -1.0)  # no time at all: nothing is told, and nothing passed over
    assert "the next look goes on" in alarms.look()
    monkeypatch.undo()
    monkeypatch.setattr(collect, "RUNS_AT_ONCE", 1)
    for _ in days:
        assert "the next look goes on" in alarms.look()
    assert [title[:18] for title in hook.titles] == [f"[lines {day}]" for day in days]
    assert alarms.look() == "nothing has failed or recovered since"


def test_a_store_that_is_out_of_reach_is_told_without_it_once(alarms: Alarms, hook: Webhook) -> None:
    class Unreachable(ObjectStore):
        def walk(self, prefix: str, after: str | None = None) -> Iterator[object]:  # type: ignore[override]
            raise StoreUnavailableError(prefix, "did not answer", "It will be tried again.")

    gone = Unreachable(None, "s3://gone")
    alarms.faults.error.add("lines|2026-11-03")
    alarms.run("2026-11-03")
    for _ in range(5):
        alarms.look(gone)
    assert hook.titles == ["No access to the object store, without which there are no alerts"]
    alarms.look()
    assert hook.titles[1:] == ["[lines 2026-11-03] deltas_are_whole failed (ERROR)"]


def test_a_store_that_never_answers_is_told_like_one_that_is_down(
    alarms: Alarms, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Event()

    class Silent(ObjectStore):
        def walk(self, prefix: str, after: str | None = None) -> Iterator[object]:  # type: ignore[override]
            answer.wait()
            return iter(())

    monkeypatch.setattr(sensor, "_STORE_SECONDS", 0.01)
    for _ in range(4):
        assert "did not answer within" in alarms.look(Silent(None, "s3://silent"))
    answer.set()
    assert hook.titles == ["No access to the object store, without which there are no alerts"]


def test_nothing_is_lost_wherever_the_sensor_dies_and_doubled_only_between_acceptance_and_its_record(
    instance: dg.DagsterInstance, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarms = Alarms(instance, open_store("memory://"), hook.url)
    alarms.faults.error.add("lines|2026-11-03")
    alarms.faults.crash.add("lines|2026-11-04")
    alarms.run("2026-11-03", "2026-11-04")
    counting = DyingStore(open_store("memory://"))
    alarms.look(counting)
    expected = sorted(hook.ids)
    assert len(expected) == 2
    monkeypatch.setattr(pace, "CLAIM_SECONDS", 0.0)
    monkeypatch.setattr(pace, "_FIRST_PAUSE", 0.0)
    doubled = 0
    for point in range(counting.done):
        hook.received.clear()
        alarms.cursor, store = None, open_store("memory://")
        with pytest.raises(Killed):
            alarms.look(DyingStore(store, point))
        alarms.look(store)
        alarms.look(store)
        assert set(hook.ids) == set(expected), point
        doubled += len(hook.ids) - len(expected)
        contents = Outbox(store, "local").read()
        assert len(contents.messages) == 2
    print(f"{counting.done} points of dying, {doubled} doubled: the channel had accepted")
    assert doubled == 2  # as many as deliveries: each once died right before its end was written down


@pytest.mark.service
def test_a_damaged_delta_is_told_by_the_audit_and_its_healing_by_the_next_run(
    complete: Deployment, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDING_ASSETS_ALERTS", hook.url)
    cell = complete.cell
    (delta,) = list_deltas(cell.store, cell.spec.name, cell.day)
    flip(
        cell.store,
        next(item.key for item in cell.store.walk(delta.key.rpartition("/")[0]) if item.key.endswith("chroma.sqlite3")),
    )
    audit = complete.definitions.resolve_job_def(AUDIT_JOB)
    config = {"ops": {"verify_everything": {"config": {"repair": False, "full_share": 0.0}}}}
    assert audit.execute_in_process(instance=complete.instance, run_config=config).success
    complete.tick("alerts")
    assert hook.titles == [f"[{cell.spec.name} {cell.day}] deltas_are_whole failed (ERROR)"]
    assert delta.id in hook.received[0]["message"]
    assert "its batches are polled afresh" in hook.received[0]["message"]
    assert complete.run_cell("batch_results", "deltas").success
    complete.tick("alerts")
    complete.tick("alerts")
    assert hook.titles[1:] == [f"[{cell.spec.name} {cell.day}] deltas_are_whole recovered"]


def test_a_run_that_somebody_cancelled_is_no_failure(alarms: Alarms, hook: Webhook) -> None:
    alarms.faults.crash.add("lines|2026-11-03")
    job = alarms.definitions.resolve_job_def("embed_cell")
    job.execute_in_process(instance=alarms.instance, partition_key="lines|2026-11-03", raise_on_error=False)
    (run,) = alarms.instance.get_runs()
    alarms.instance.report_run_canceled(run)  # its step failed because it was interrupted
    alarms.look()
    assert hook.received == []
