"""The service as a child process, for tests and demonstrations."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from urllib.parse import urlsplit

from embedding_assets.sandbox.faults import RULE, Fault
from embedding_assets.sandbox.limits import Limits

KEY_VARIABLE = "SANDBOX_API_KEY"
PARENT_VARIABLE = "SANDBOX_PARENT_PID"
READY = "sandbox ready: "
"""What the child prints, followed by its base URL, when it answers."""

_STOP_SECONDS = 15


class SandboxError(Exception):
    """The service could not be started, or refused a rule."""


@dataclass(frozen=True)
class _Launch:
    """What a start and every restart have in common."""

    folder: Path
    api_key: str
    delay: float
    limits: Limits
    concurrency: int

    def arguments(self, port: int) -> list[str]:
        limits = self.limits
        asked = {
            "--folder": str(self.folder),
            "--port": str(port),
            "--delay": str(self.delay),
            "--concurrency": str(self.concurrency),
            "--max-requests": str(limits.requests),
            "--max-inputs": str(limits.embedding_inputs),
            "--max-file-bytes": str(limits.file_bytes),
        }
        if limits.enqueued_tokens is not None:
            asked["--max-enqueued-tokens"] = str(limits.enqueued_tokens)
        return [word for pair in asked.items() for word in pair]


@dataclass
class Sandbox:
    """A running service.

    The key goes to the child through its environment, where other users of the machine cannot read it, and the child
    stops by itself when this process dies without having said so.
    """

    base_url: str
    _launch: _Launch
    _process: subprocess.Popen[str] = field(repr=False)

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        api_key: str = "sandbox",
        port: int = 0,
        delay: float = 0.0,
        limits: Limits | None = None,
        concurrency: int = 2,
        faults: Sequence[Fault] = (),
    ) -> Sandbox:
        """Start the service on a free port and wait until it answers; its log is `service.log` in the folder."""
        launch = _Launch(Path(folder), api_key, delay, limits or Limits(), concurrency)
        launch.folder.mkdir(parents=True, exist_ok=True)
        process, base_url = _spawn(launch, port)
        sandbox = cls(base_url, launch, process)
        for fault in faults:
            sandbox.set_fault(fault)
        return sandbox

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def api_key(self) -> str:
        """The key that the service asks for."""
        return self._launch.api_key

    @property
    def folder(self) -> Path:
        """Where its state lies."""
        return self._launch.folder

    @property
    def pid(self) -> int:
        """The process that serves."""
        return self._process.pid

    def stop(self) -> int:
        """End it in order (SIGTERM); answer its exit code."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            _close(self._process.stdout)

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""
        self._process.kill()
        self._process.wait()
        _close(self._process.stdout)

    def restart(self) -> None:
        """Start it again in the same folder and on the same port; stop it first if it still runs."""
        self.stop()
        self._process, self.base_url = _spawn(self._launch, urlsplit(self.base_url).port or 0)

    def set_fault(self, rule: Fault) -> str:
        """Make it misbehave; answer the rule's id."""
        return str(self._control("POST", RULE.dump_json(rule))["id"])

    def faults(self) -> list[dict[str, Any]]:
        """The rules, each with how many times it has `matched` and whether it is `spent`."""
        rules: list[dict[str, Any]] = self._control("GET")["data"]
        return rules

    def clear_faults(self) -> None:
        """Make it behave from now on."""
        self._control("DELETE")

    def _control(self, method: str, body: bytes | None = None) -> dict[str, Any]:
        address = urlsplit(self.base_url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        try:
            connection.request(method, "/sandbox/faults", body, {"Authorization": f"Bearer {self.api_key}"})
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise SandboxError(answer["error"]["message"])
        return answer


def _spawn(launch: _Launch, port: int) -> tuple[subprocess.Popen[str], str]:
    environment = {**os.environ, KEY_VARIABLE: launch.api_key, PARENT_VARIABLE: str(os.getpid())}
    log = launch.folder / "service.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "embedding_assets.sandbox", *launch.arguments(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
        )
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line.startswith(READY):
        process.kill()
        process.wait()
        _close(process.stdout)
        raise SandboxError(f"The sandbox did not start; its log is {log}:\n{log.read_text(errors='replace')[-2000:]}")
    return process, line.removeprefix(READY).strip()


def _close(stream: IO[str] | None) -> None:
    if stream is not None:
        stream.close()
