"""Keeps worker processes at hand and hands each one task at a time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, Any

import orjson

from embedding_assets.scratch import ScratchFolder


class TaskFailedError(Exception):
    """A task gave no result.

    Attributes:
        reason: in words.
        signal: the signal that its process died of, if it did.
        answered: whether the task itself reported the failure.
        log: what it printed.
    """

    def __init__(
        self, reason: str, *, died_of: signal.Signals | None = None, answered: bool = False, log: str = ""
    ) -> None:
        super().__init__(reason)
        self.reason, self.signal, self.answered, self.log = reason, died_of, answered, log


_idle: list[_Worker] = []
_lock = threading.Lock()


def run_task(task: str, arguments: dict[str, Any], seconds: float, memory: int | None = None) -> dict[str, Any]:
    """Do one task of `worker` in a process of its own.

    Args:
        task, arguments: what and with what; plain JSON values.
        seconds: after so long its process is killed.
        memory: so many bytes may its process use on top of what it has from the start; None: no limit.

    Raises:
        TaskFailedError: it failed, died or took too long.
    """
    with ScratchFolder("task") as scratch:
        worker = _take()
        answer_path = scratch / "answer.json"
        message = {"task": task, "answer": str(answer_path), "arguments": arguments, "memory": memory}
        try:
            code = worker.perform(message, seconds)
        except BaseException:
            worker.end()
            raise
        with _lock:
            _idle.append(worker)
        if not answer_path.exists():
            raise _died(task, code, worker.last_words())
        answer: dict[str, Any] = orjson.loads(answer_path.read_bytes())
    if "error" in answer:
        raise TaskFailedError(answer["error"], answered=True)
    result: dict[str, Any] = answer["result"]
    return result


def keep_ready() -> None:
    """Start a worker process unless one is at hand; returns at once."""
    worker = _take()
    with _lock:
        _idle.append(worker)


def _take() -> _Worker:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.usable():
                return worker
            worker.end()
    return _Worker()


def _died(task: str, code: int, log: str) -> TaskFailedError:
    if code < 0:
        died_of = signal.Signals(-code)
        return TaskFailedError(f"the process of `{task}` died of {died_of.name}", died_of=died_of, log=log)
    if code > 1:
        return TaskFailedError(
            f"the process of `{task}` could not write its answer: [Errno {code}] {os.strerror(code)}"
        )
    return TaskFailedError(f"the process of `{task}` ended with code {code}: {log}")


class _Worker:
    """One worker process, in a process group of its own so that it can be killed with its task."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._task_began = 0
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the worker)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "embedding_assets.chroma.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            env=_environment(),
            start_new_session=True,
        )

    def usable(self) -> bool:
        """Whether it still runs and belongs to this process (a fork of ours has the list but must not use it)."""
        return self._owner == os.getpid() and self._process.poll() is None

    def perform(self, message: dict[str, Any], seconds: float) -> int:
        """Send one task and wait for the exit code of its process."""
        assert self._process.stdin is not None  # noqa: S101  (pipes, both)
        assert self._process.stdout is not None  # noqa: S101
        deadline = time.monotonic() + seconds
        self._task_began = self._log.seek(0, os.SEEK_END)
        try:
            self._process.stdin.write(orjson.dumps(message) + b"\n")
        except BrokenPipeError:
            raise TaskFailedError(f"the worker process could not start: {self.last_words()}") from None
        reply = b""
        while not reply.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise TaskFailedError(f"`{message['task']}` took longer than {seconds:.0f} s")
            piece = self._process.stdout.read(256)
            if not piece:
                raise TaskFailedError(f"the worker process ended: {self.last_words()}")
            reply += piece
        return int(orjson.loads(reply)["exit"])

    def last_words(self) -> str:
        """The end of what the last task printed."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(self._task_began, size - 500))
        return self._log.read().decode(errors="replace").strip()

    def end(self) -> None:
        """Kill it with whatever it is doing."""
        if self._owner != os.getpid():
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                pipe.close()


def _environment() -> dict[str, str]:
    """The worker's environment: it finds this package where we found it, and sees no secret, having no use for one."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "OPENAI_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "ANONYMIZED_TELEMETRY": "False"}
