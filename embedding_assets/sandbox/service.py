"""What the service consists of, put together."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

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

    @classmethod
    def open(cls, settings: Settings) -> Service:
        """Open the folder, clear away what a killed service left half done, and go on with its batches."""
        settings.folder.mkdir(parents=True, exist_ok=True)
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
        return cls(settings, index, contents, FaultBook(index), model, worker)

    def close(self) -> None:
        """Stop working; what is unfinished is gone on with at the next start."""
        self.worker.close()
        self.index.close()
