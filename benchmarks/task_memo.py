"""Does each task of a child process once for the same bytes, and gives what it gave before from then on.

A task (merge, write, examine, ...) is a function of the files that it is given; the next cases of a matrix give most of
them the same files again. What it answered and what it left in its folder is kept on the disk, for all processes.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from embedding_assets.chroma import child
from embedding_assets.chroma.workers import TaskFailedError, run_task

Files = dict[str, bytes]


def read_folder(folder: Path) -> Files:
    """All files below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def digest_of(files: Files) -> str:
    """One digest of all files with their names."""
    whole = hashlib.sha256()
    for path, data in sorted(files.items()):
        whole.update(f"{path}\0{len(data)}\0".encode() + hashlib.sha256(data).digest())
    return whole.hexdigest()


class Kept:
    """Values by key in a folder that several processes share."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """The value of a key, made where nobody made it yet."""
        path = self._folder / key
        if path.exists():
            return pickle.loads(path.read_bytes())
        value = make()
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(pickle.dumps(value))
        unfinished.rename(path)
        return value


class TaskMemo:
    """Stands in the place of `run_task`; `asked` and `done` count tasks."""

    def __init__(self, folder: Path) -> None:
        self._kept = Kept(folder)
        self.asked = self.done = 0

    def install(self) -> None:
        """From now on this process does its tasks through it."""
        child.run_task = self.run_task  # type: ignore[assignment]

    def run_task(self, task: str, arguments: dict[str, Any], seconds: float, memory: int | None = None) -> Any:
        """As `workers.run_task`."""
        self.asked += 1
        folder = Path(arguments["folder"])
        before = read_folder(folder)
        key = hashlib.sha256(orjson.dumps([task, _without_places(arguments), bool(memory)])).hexdigest()

        def do() -> tuple[Any, TaskFailedError | None, Files]:
            self.done += 1
            try:
                answer, failed = run_task(task, arguments, seconds, memory), None
            except TaskFailedError as error:
                answer, failed = None, error
            after = read_folder(folder)
            return (
                answer,
                failed,
                {path: data for path, data in after.items() if before.get(path) != data}
                | dict.fromkeys(before.keys() - after.keys()),
            )  # type: ignore[return-value]

        done = self.done
        answer, failed, changes = self._kept.get(key, do)
        if self.done == done:
            for path, data in changes.items():
                target = folder / path
                if data is None:
                    target.unlink()
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.unlink(missing_ok=True)
                    target.write_bytes(data)
        if failed is not None:
            raise TaskFailedError(failed.reason, died_of=failed.signal, answered=failed.answered, log=failed.log)
        return answer


def _without_places(value: Any) -> Any:
    """Arguments in which each path is replaced by what is there."""
    if isinstance(value, dict):
        return {key: _without_places(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_places(one) for one in value]
    if isinstance(value, str) and value.startswith("/"):
        path = Path(value)
        if path.is_dir():
            return digest_of(read_folder(path))
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return value
