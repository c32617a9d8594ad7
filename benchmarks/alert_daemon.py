"""A real Dagster daemon that tells of failures, and is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import dagster as dg

from embedding_assets.alerts.outbox import Outbox
from embedding_assets.orchestration.names import Names
from embedding_assets.store.objects import open_store
from embedding_assets_tests.orchestration.alarms import DAYS, Faults, build_little_set
from embedding_assets_tests.receivers import Webhook

_LOCATION = """
from embedding_assets.alerts import pace
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.resources import AlertsResource, StoreResource
from embedding_assets_tests.orchestration.alarms import Faults, build_little_set

pace.CLAIM_SECONDS = 10.0  # nobody waits two minutes for a benchmark
defs = build_little_set(
    Faults(), Names(), store=StoreResource(url={store!r}), alerts=AlertsResource(channels={channels!r})
)
"""
_PATIENCE = 120.0


class DaemonRounds:
    """Lets runs fail and the daemon tell of it; kills it at acceptance in one round, at a random moment in the next."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.hook = Webhook()
        self.kills = 0
        self.killed_at_acceptance = 0
        self.seconds: list[float] = []
        self._daemon: subprocess.Popen[bytes] | None = None
        self._kill_at_acceptance = False
        (folder / "home").mkdir()
        (folder / "store").mkdir()
        (folder / "home" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
        self.store = open_store(f"file://{folder}/store")
        (folder / "here.py").write_text(_LOCATION.format(store=self.store.url, channels=self.hook.url))
        (folder / "workspace.yaml").write_text(f"load_from:\n  - python_file: {folder}/here.py\n")

    def run(self, rounds: int) -> None:
        """Two undisturbed rounds, then so many with a kill; returns when everything was told."""
        self.hook.up()
        self.hook.on_receipt = self._received
        faults = Faults()
        definitions = build_little_set(faults, Names())
        job = definitions.resolve_job_def("embed_cell")
        try:
            self._start()
            with dg.DagsterInstance.from_config(str(self.folder / "home")) as instance:
                for number in range(rounds + 2):
                    day = DAYS[number]
                    self._kill_at_acceptance = number >= 2 and number % 2 == 0
                    faults.crash.add(f"lines|{day}")
                    job.execute_in_process(instance=instance, partition_key=f"lines|{day}", raise_on_error=False)
                    failed = time.monotonic()
                    if number >= 2 and number % 2:
                        time.sleep(self.random.uniform(0, 25))  # the moment is what is tried out, not waited for
                        self._kill()
                        self._start()
                    self._wait_for(day)
                    if 0 < number < 2:  # the first one waits for the daemon to start
                        self.seconds.append(time.monotonic() - failed)
            self._wait_until_told()
        finally:
            self._kill()
            self.kills -= 1  # that was the end
            self.hook.down()

    def expected(self) -> list[str]:
        """Ids of all messages."""
        return list(self._outbox().read().messages)

    def in_words(self) -> str:
        """How long the undisturbed rounds took."""
        return ", ".join(f"{one:.0f} s" for one in self.seconds)

    def _received(self) -> None:
        if self._kill_at_acceptance:
            self._kill_at_acceptance = False
            self.killed_at_acceptance += 1
            self._kill()
            Thread(target=self._start).start()

    def _wait_for(self, day: str) -> None:
        self._until(lambda: any(day in title for title in self.hook.titles), f"the failure of {day}")

    def _wait_until_told(self) -> None:
        def told() -> bool:
            contents = self._outbox().read()
            return all(contents.messages.keys() <= contents.accepted_by(channel) for channel in contents.logs) and bool(
                contents.logs
            )

        self._until(told, "all that waits")

    def _until(self, done: object, what: str) -> None:
        until = time.monotonic() + _PATIENCE
        while not done():  # type: ignore[operator]
            if time.monotonic() > until:
                raise TimeoutError(f"{what} was not told within {_PATIENCE:.0f} s")
            time.sleep(0.2)

    def _outbox(self) -> Outbox:
        (scope,) = self.store.folders("_alerts") or ["none"]
        return Outbox(self.store, scope)

    def _start(self) -> None:
        environment = {**os.environ, "DAGSTER_HOME": str(self.folder / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
        with (self.folder / "daemon.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "dagster._daemon", "run", "-w", str(self.folder / "workspace.yaml")],
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that its children can be killed with it
            )

    def _kill(self) -> None:
        if self._daemon is not None:
            os.killpg(self._daemon.pid, signal.SIGKILL)
            self._daemon.wait()
            self._daemon = None
            self.kills += 1
