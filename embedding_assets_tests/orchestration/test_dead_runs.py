"""A run whose process died is failed, told and done again; one that lives, however slow, is left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from embedding_assets.orchestration import heartbeat
from embedding_assets.orchestration.alerts.own import Own
from embedding_assets.orchestration.attempts import request_run
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.sensors.dead_runs import build_dead_runs
from embedding_assets.store import layout
from embedding_assets.store.objects import open_store
from embedding_assets_tests.orchestration import blocked_run
from embedding_assets_tests.orchestration.alarms import Alarms
from embedding_assets_tests.receivers import webhook

pytestmark = pytest.mark.dagster
DEAD, SILENT = 3, 15  # looks


@dataclass
class Watch:
    """The sensor on an instance, and a clock that is moved by hand."""

    instance: dg.DagsterInstance
    patch: pytest.MonkeyPatch
    at: datetime
    cursor: str | None = None

    def look(self, times: int = 1, seconds: float = 20) -> str:
        sensor = build_dead_runs(Names(), Own.of([], [], ["audit"], []), dg.DefaultSensorStatus.RUNNING, 60)
        said = ""
        for _ in range(times):
            self.at += timedelta(seconds=seconds)
            self.patch.setattr(layout, "now", lambda: self.at)
            with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
                answer = sensor.evaluate_tick(context)
            self.cursor, said = answer.cursor, answer.skip_message or ""
        return said

    def status(self, run_id: str) -> str:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status.value


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "store").mkdir()
    return tmp_path / "home"


@pytest.fixture
def watch(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield Watch(instance, monkeypatch, layout.now())


@contextmanager
def blocked(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process in the middle of a run, and the run's id."""
    words = [sys.executable, "-m", blocked_run.__name__, str(home), f"file://{home.parent}/store"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_run_that_was_killed_is_failed_told_once_and_asked_for_again(home: Path, watch: Watch) -> None:
    def asked() -> dg.RunRequest | str:
        later = layout.now().timestamp() + 7200
        return request_run(watch.instance, "audit", [], "lines", "state", "work", now=later)

    with blocked(home) as (process, run_id):
        assert watch.status(run_id) == "STARTED"
        process.send_signal(signal.SIGKILL)
        process.wait()
        # The parent, this very process, lives: so its end is not certain, and its silence decides.
        watch.look(SILENT)
        assert (watch.status(run_id), asked()) == ("STARTED", "lines: a run is queued or under way")
        watch.look(SILENT)
    assert watch.status(run_id) == "FAILURE"
    assert isinstance(asked(), dg.RunRequest)
    with webhook() as hook:
        alarms = Alarms(watch.instance, open_store("memory://"), hook.url)
        alarms.look()
        alarms.look()
        assert len(hook.titles) == 1
        assert "has given no sign of life" in hook.received[0]["message"]


def test_a_run_that_is_stopped_and_continued_is_not_failed(home: Path, watch: Watch) -> None:
    with blocked(home) as (process, run_id):
        process.send_signal(signal.SIGSTOP)
        watch.look(2 * SILENT, seconds=3600)
        assert watch.status(run_id) == "STARTED"
        process.send_signal(signal.SIGCONT)
        process.communicate("")
        assert watch.status(run_id) == "SUCCESS"


def started(watch: Watch, sign: str | None) -> str:
    """A run under way that gave this sign."""
    job = blocked_run.job_of("file:///nowhere")
    tags = {heartbeat.ALIVE_TAG: sign} if sign else {}
    return watch.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags).run_id


def gone() -> str:
    """A process that was here, as was the one above it."""
    return f"{heartbeat.place()} 4194999@1 4194998@1 7"


def test_a_process_that_is_certainly_gone_is_failed_within_a_few_looks(watch: Watch) -> None:
    run_id = started(watch, gone())
    watch.look(DEAD - 1)
    assert watch.status(run_id) == "STARTED"
    assert run_id[:8] in watch.look()
    assert watch.status(run_id) == "FAILURE"


def test_on_another_machine_silence_decides_and_no_jump_of_the_clock(watch: Watch) -> None:
    run_id = started(watch, "elsewhere/boot/pid 1@1 2@2 7")
    watch.look(SILENT - 1, seconds=100_000)
    assert watch.status(run_id) == "STARTED"
    watch.instance.add_run_tags(run_id, {heartbeat.ALIVE_TAG: "elsewhere/boot/pid 1@1 2@2 8"})
    watch.look(SILENT - 1)
    assert watch.status(run_id) == "STARTED"
    watch.look(3)
    assert watch.status(run_id) == "FAILURE"


def test_a_run_that_never_gave_a_sign_has_an_hour(watch: Watch) -> None:
    run_id = started(watch, None)
    watch.look(100)
    assert watch.status(run_id) == "STARTED"
    watch.look(100)
    assert watch.status(run_id) == "FAILURE"


def test_a_process_with_the_same_number_is_another_one() -> None:
    _, mine, parent, _ = f"- {heartbeat._process(1)} {heartbeat._process(1)} 0".split()
    assert heartbeat.life_of(f"{heartbeat.place()} {mine} {parent} 0") == "lives"
    assert heartbeat.life_of(f"{heartbeat.place()} {mine}1 {parent}1 0") == "dead"
    assert heartbeat.life_of("of another form") == heartbeat.life_of(None) == "unknown"
