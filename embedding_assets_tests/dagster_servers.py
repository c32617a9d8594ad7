"""A Dagster deployment as processes of their own: a code server per location, webserver and daemon apart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import yaml

import embedding_assets

_SETTINGS = Path(embedding_assets.__file__).with_name("dagster.yaml")
_OURS = ("EMBEDDING_ASSETS_", "OPENAI_", "AWS_", "DAGSTER_")
_PATIENCE_SECONDS = 180.0
Found = TypeVar("Found")


@dataclass(frozen=True)
class Location:
    """A code location: its name in the workspace, the variables that make it differ from others, and its module."""

    name: str
    variables: Mapping[str, str]
    module: str = "embedding_assets.definitions"


@dataclass
class DagsterServers:
    """The running processes; `url` is the webserver's."""

    folder: Path
    url: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The answer to a GraphQL query."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        asked = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            said = json.loads(answer.read())
        assert "errors" not in said, said["errors"]
        data: dict[str, Any] = said["data"]
        return data

    def until(self, what: str, look: Callable[[], Found | None], seconds: float = _PATIENCE_SECONDS) -> Found:
        """What `look` finds, as soon as it finds something; fails with the logs when it takes too long."""
        deadline = time.monotonic() + seconds
        while True:
            found = look()
            if found:
                return found
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended while waiting until {what}\n{self.log(name)}"
            assert time.monotonic() < deadline, f"waited in vain until {what}\n{self.logs()}"
            time.sleep(0.5)  # each look is work for the webserver

    def runs(self) -> list[dict[str, Any]]:
        """All runs, the newest first: job, status, location, partition."""
        return [
            {
                "job": run["jobName"],
                "status": run["status"],
                "location": run["repositoryOrigin"]["repositoryLocationName"],
                "partition": next((tag["value"] for tag in run["tags"] if tag["key"] == "dagster/partition"), None),
            }
            for run in self.ask(_RUNS)["runsOrError"]["results"]
        ]

    def log(self, name: str) -> str:
        """The end of what a process said."""
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-60:])

    def logs(self) -> str:
        """The ends of what all said."""
        return "\n".join(f"--- {name}\n{self.log(name)}" for name in self.processes)


_RUNS = """{ runsOrError { ... on Runs { results {
  jobName status repositoryOrigin { repositoryLocationName } tags { key value } } } } }"""
_LOADED = """{ workspaceOrError { ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }"""


@contextmanager
def dagster_servers(
    folder: Path, locations: list[Location], *, settings: Mapping[str, Any] | None = None
) -> Iterator[DagsterServers]:
    """A deployment until the block ends.

    Args:
        folder: an empty one for DAGSTER_HOME and logs.
        locations: the code locations, each with its own environment.
        settings: what `dagster.yaml` has beside what the package ships, such as `storage`.
    """
    home = folder / "home"
    home.mkdir()
    if settings is None:
        shutil.copy(_SETTINGS, home / "dagster.yaml")
    else:
        shipped = yaml.safe_load(_SETTINGS.read_text())
        (home / "dagster.yaml").write_text(yaml.safe_dump({**shipped, **settings}))
    # The tables are made before the processes start, which would all do it at once.
    with dg.DagsterInstance.from_config(str(home)):
        pass
    ports = _free_ports(len(locations) + 1)
    entries = [
        {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": location.name}}
        for location, port in zip(locations, ports[1:], strict=True)
    ]
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": entries}))
    made = DagsterServers(folder, f"http://127.0.0.1:{ports[0]}")
    with ExitStack() as stack:
        for location, port in zip(locations, ports[1:], strict=True):
            words = ["dagster", "api", "grpc", "-m", location.module, "-h", "127.0.0.1", "-p", str(port)]
            variables = {"EMBEDDING_ASSETS_UI": made.url, **location.variables}
            stack.enter_context(_process(made, f"code-{location.name}", home, words, variables))
        workspace = ["-w", str(folder / "workspace.yaml")]
        words = ["dagster_webserver", "-h", "127.0.0.1", "-p", str(ports[0]), *workspace]
        stack.enter_context(_process(made, "webserver", home, words))
        stack.enter_context(_process(made, "daemon", home, ["dagster._daemon", "run", *workspace]))
        made.until("all locations are loaded", lambda: _loaded(made))
        yield made


def _loaded(servers: DagsterServers) -> bool:
    try:
        entries = servers.ask(_LOADED)["workspaceOrError"]["locationEntries"]
    except (urllib.error.URLError, ConnectionError):
        return False
    for entry in entries:
        problem = (entry["locationOrLoadError"] or {}).get("message")
        # A code server that is not up yet is an error that the webserver gets over by itself.
        assert problem is None or "Could not reach" in problem or "UNAVAILABLE" in problem, problem
    return all((entry["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation" for entry in entries)


@contextmanager
def _process(
    servers: DagsterServers, name: str, home: Path, words: list[str], variables: Mapping[str, str] | None = None
) -> Iterator[None]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
    root = str(Path(embedding_assets.__file__).parents[1])
    environment = {**inherited, "PYTHONPATH": root, "DAGSTER_HOME": str(home), **(variables or {})}
    with (servers.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=servers.folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    servers.processes[name] = process
    try:
        yield
    finally:
        # With the runs that it started; nothing of it is needed any more.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
