"""What the service consists of, put together."""

from __future__ import annotations

import fcntl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from embedding_assets.sandbox.contents import Contents
from embedding_assets.sandbox.execution import Executor
from embedding_assets.sandbox.fault_book import FaultBook
from embedding_assets.sandbox.index import Index
from embedding_assets.sandbox.limits import Limits
from embedding_assets.sandbox.model import Model
from embedding_assets.sandbox.worker import Worker

DEFAULT_KEY = "sandbox"


@dataclass(frozen=True)
class Settings:
    """How the service is run; `delay` is how many seconds a batch takes when no fault says otherwise."""

    folder: Path
    api_key: str = DEFAULT_KEY
    delay: float = 0.0
    limits: Limits = field(default_factory=Limits)
    concurrency: int = 2


@dataclass(frozen=True)
class Service:
    """The parts that the routes work with."""

    settings: Settings
    index: Index
    contents: Contents
    faults: FaultBook
    model: Model
    worker: Worker
    lock: IO[bytes]

    @classmethod
    def open(cls, settings: Settings) -> Service:
        """Open the folder, clear away what a killed service left half done, and go on with its batches."""
        settings.folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(settings.folder)
        index = Index(settings.folder / "index.sqlite3")
        contents = Contents(settings.folder)
        contents.sweep(record.id for record in index.files())
        model = Model()
        stop = threading.Event()
        executor = Executor(
            index=index,
            contents=contents,
            model=model,
            limits=settings.limits,
            delay=settings.delay,
            stopping=stop.is_set,
        )
        worker = Worker(index, executor, stop, settings.concurrency)
        worker.start()
        return cls(settings, index, contents, FaultBook(index), model, worker, lock)

    def close(self) -> None:
        """Stop working; what is unfinished is gone on with at the next start."""
        self.worker.close()
        self.index.close()
        self.lock.close()


def _lock(folder: Path) -> IO[bytes]:
    """Hold the folder alone: a second service would sweep away what the first is writing. A kill releases the lock."""
    lock = (folder / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise RuntimeError(
            f"Another sandbox runs in {folder}: stop it, or give this one a folder of its own."
        ) from error
    return lock
