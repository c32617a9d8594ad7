"""Daemon, webserver, code server and run killed at once in mid-run, and started again: with real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from embedding_assets.store import layout
from embedding_assets_tests.dagster_servers import DagsterServers, Location, dagster_servers
from embedding_assets_tests.receivers import webhook

pytestmark = pytest.mark.dagster

HASTY = "embedding_assets_tests.orchestration.hasty"  # by name: what it changes is for processes of their own
_LAUNCH = """mutation Launch($what: ExecutionParams!) { launchRun(executionParams: $what) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


def launch(servers: DagsterServers, partition: str) -> None:
    """Ask for a run of a cell by hand."""
    what = {
        "selector": {"repositoryLocationName": "one", "repositoryName": "__repository__", "jobName": "embed_cell"},
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
    }
    assert servers.ask(_LAUNCH, what=what)["launchRun"]["__typename"] == "LaunchRunSuccess"


def cut_the_power(servers: DagsterServers) -> None:
    """Kill every process of the deployment, and start the same again but for the runs."""
    environments = {}
    for name, process in servers.processes.items():
        entries = Path(f"/proc/{process.pid}/environ").read_text().split("\0")
        environments[name] = dict(entry.split("=", 1) for entry in entries if entry)
    for process in servers.processes.values():
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for name, process in list(servers.processes.items()):
        with (servers.folder / f"{name}.log").open("ab") as log:
            servers.processes[name] = subprocess.Popen(
                process.args,
                cwd=servers.folder,
                env=environments[name],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def test_after_a_power_cut_the_dead_run_is_failed_and_told_and_the_queued_one_goes_on(tmp_path: Path) -> None:
    for folder in ("store", "documents", "servers"):
        (tmp_path / folder).mkdir()
    (tmp_path / "documents" / "all.jsonl").write_text('{"id": "a", "text": "milk"}\n')
    yesterday = str((layout.now() - timedelta(days=1)).date())
    spec = {"model": "wordllama-256", "dimensions": 64, "documents": str(tmp_path / "documents")}
    (tmp_path / "collections.yaml").write_text(json.dumps({"start": yesterday, "collections": {"lines": spec}}))
    with socket.socket() as silent, webhook() as hook:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)  # and never answers: a run that asks it is in the middle of its work
        variables = {
            "EMBEDDING_ASSETS_STORE": f"file://{tmp_path}/store",
            "EMBEDDING_ASSETS_COLLECTIONS": str(tmp_path / "collections.yaml"),
            "EMBEDDING_ASSETS_CACHE": str(tmp_path / "cache"),
            "EMBEDDING_ASSETS_SENSORS": "running",
            "EMBEDDING_ASSETS_SENSOR_SECONDS": "5",
            "EMBEDDING_ASSETS_ALERTS": hook.url,
            "OPENAI_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/v1",
            "OPENAI_API_KEY": "sk-none",
        }
        with dagster_servers(tmp_path / "servers", [Location("one", variables, HASTY)]) as servers:
            partition = f"lines|{yesterday}"

            def statuses() -> list[str]:
                return sorted(run["status"] for run in servers.runs() if run["partition"] == partition)

            launch(servers, partition)
            servers.until("the run works", lambda: statuses() == ["STARTED"])
            launch(servers, partition)
            servers.until("the other one waits", lambda: statuses() == ["QUEUED", "STARTED"])
            cut_the_power(servers)
            try:

                def went_on() -> bool:
                    with suppress(OSError):
                        return statuses() == ["FAILURE", "STARTED"]
                    return False

                servers.until("the dead run is failed and the other goes on", went_on)
                servers.until("it is told", lambda: hook.titles)
                assert len(hook.titles) == 1
                assert "has died" in hook.received[0]["message"]
            finally:
                for process in servers.processes.values():
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
