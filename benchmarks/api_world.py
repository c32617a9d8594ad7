"""Deployments with a moved clock: the pipeline's own steps, as its sensors and schedules take them, tick by tick."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

from api_service import DIMENSIONS
from mortal_store import Killed, MortalStore

from embedding_assets.batches.balance import CellBalance, balance
from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.discover import discover
from embedding_assets.batches.position import Budget, Position
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.errors import ApiUnavailableError, EmbeddingAssetsError
from embedding_assets.pipeline.attempts import PastRun, next_attempt
from embedding_assets.pipeline.cells import build_cell_deltas, land_cell, submit_cell
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.pending import cells_to_run, compaction_due
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.compact import compact

RUN_ID = "api-matrix"
MODEL = "test-model"
_SLEEP = time.sleep

# Hours between the looks: close together at first, then as far apart as patience is long.
TICKS = (*[0.25] * 8, *[1.0] * 6, *[4.0] * 10, *[8.0] * 6, *[24.0] * 3)
LONG_TICKS = (*TICKS, *[48.0] * 12)
_PAGES = 20  # of the API's list, that one look of the sensor reads
QUIET = 4  # looks without anything to do, one of them after more than an hour, that end a case


class Clock:
    """What the time is; nothing but `move` moves it."""

    def __init__(self) -> None:
        today = datetime.now(timezone.utc).replace(hour=6, minute=0, second=0, microsecond=0)
        self.at = today

    def __call__(self) -> datetime:
        self.at += timedelta(microseconds=1)  # ids made of it sort
        return self.at

    def move(self, hours: float) -> None:
        """Let so much time pass."""
        self.at += timedelta(hours=hours)


@contextlib.contextmanager
def moved_clock() -> Iterator[Clock]:
    """The time of everything that decides by it; pauses between attempts take no time."""
    clock, before = Clock(), layout.now
    layout.now = clock
    time.sleep = lambda seconds: _SLEEP(min(seconds, 0.002))
    try:
        yield clock
    finally:
        layout.now, time.sleep = before, _SLEEP


@dataclass
class Deployment:
    """Some collections in a store of their own, with documents and an address under which the service knows it.

    Attributes:
        api, sensor: what runs and what the sensor asks through; a sensor does not repeat what failed.
        position: where the sensor's last look stopped.
        deaths: how many more steps are killed, at a random one of their writes.
        troubles: what steps ended with, newest last.
        past: the runs of each cell, newest first.
        killed: the cells whose scheduled run has died.
    """

    name: str
    catalog: Catalog
    api: EmbeddingApi
    sensor: EmbeddingApi
    folder: Path
    clock: Clock
    random: Random
    store: ObjectStore = field(default_factory=lambda: open_store("memory://"))
    position: Position = field(default_factory=Position)
    deaths: int = 0
    troubles: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    past: dict[str, list[PastRun]] = field(default_factory=dict)
    killed: set[str] = field(default_factory=set)
    documents: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def make(
        cls, name: str, url: str, folder: Path, clock: Clock, random: Random, specs: Mapping[str, Mapping[str, Any]]
    ) -> Deployment:
        """A deployment with an empty store."""
        home = folder / name
        home.mkdir()
        collections = {}
        for collection, declared in specs.items():
            known = {
                "name": collection,
                "model": MODEL,
                "dimensions": DIMENSIONS,
                "documents": f"{home}/{collection}.jsonl",
                # Once in a simulated day: every compaction is a process.
                "compaction": {"after_deltas": 50, "after_minutes": 600},
                **declared,
            }
            collections[collection] = CollectionSpec.model_validate(known)
        settings = ApiSettings("sk-matrix-0123456789", f"{url}/{name}/v1")
        api, sensor = EmbeddingApi(settings, retries=2, timeout=20), EmbeddingApi(settings, retries=0, timeout=10)
        start = (clock.at - timedelta(days=40)).date()
        return cls(name, Catalog(collections=collections, start=start), api, sensor, home, clock, random)

    def write(self, collection: str, texts: Mapping[str, str]) -> None:
        """Make these the documents: each day's run asks for those that were not asked for yet."""
        self.documents.setdefault(collection, {}).update(texts)
        lines = [{"id": i, "text": text, "metadata": {"n": n}} for n, (i, text) in enumerate(texts.items())]
        (self.folder / f"{collection}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    @property
    def today(self) -> str:
        return layout.day_of(self.clock.at.timestamp())

    def schedule(self) -> None:
        """The daily run of each collection's cell of today."""
        for spec in self.catalog:
            self._run(spec, self.today, "", ask=True, scheduled=True)

    def tick(self) -> bool:
        """One look of each sensor; returns whether there was anything to do."""
        for key in sorted(self.killed):
            # A dead run is failed by Dagster, and launched again: nothing else reads the documents of its day.
            collection, day = key.split("|")
            self._run(self.catalog.get(collection), day, "", ask=True, scheduled=True)
        if layout.now().timestamp() < self.position.not_before:
            return True
        budget = Budget(_PAGES)
        try:
            cells, work = cells_to_run(self.sensor, self.store, self.catalog, position=self.position, budget=budget)
        except EmbeddingAssetsError as error:
            self.troubles.append(f"finished_batches: {error}")
            if isinstance(error, ApiUnavailableError):
                self.position = self.position.after_waiting(error.retry_after or 0.0)
            return True
        self.position = work.position
        busy = not work.position.over
        for cell in cells:
            past = self.past.get(f"{cell.collection}|{cell.day}", [])
            kind = next_attempt(cell.state, past, layout.now().timestamp(), once=cell.once).kind
            busy |= kind != "done"
            if kind == "now":
                self._run(self.catalog.get(cell.collection), cell.day, cell.state, ask=cell.ask)
        for spec in self.catalog:
            due = compaction_due(self.store, spec)
            if due is not None:
                busy = True
                if due.due:
                    self._step(lambda store, spec=spec: self._compact(store, spec))
        return busy

    def _run(self, spec: CollectionSpec, day: str, state: str, *, ask: bool, scheduled: bool = False) -> None:
        """One run of a cell's job: a step that fails ends it, as does a death."""

        def request(store: ObjectStore) -> None:
            discover(self.api, store, self.catalog)
            submit_cell(self.api, store, spec, day)

        def land(store: ObjectStore) -> None:
            rows = land_cell(self.api, store, spec, day).batches
            self.remarks = [f"{row.batch_id} {row.state}: {row.reason}" for row in rows if row.reason]
            books = balance(store, spec, day)
            if not books.balanced:
                raise EmbeddingAssetsError(f"cell {spec.name} {day}", f"is not balanced: {books}", "")

        def build(store: ObjectStore) -> None:
            with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                build_cell_deltas(store, spec, day, run_id=RUN_ID, scratch=Path(scratch))

        steps: Sequence[Callable[[ObjectStore], None]] = (request, land, build) if ask else (land, build)
        deaths, key = self.deaths, f"{spec.name}|{day}"
        well = all(self._step(step) for step in steps)
        if scheduled:
            (self.killed.add if not well and self.deaths < deaths else self.killed.discard)(key)
        ran = PastRun(None if scheduled else state, layout.now().timestamp(), well)
        self.past.setdefault(key, []).insert(0, ran)

    def _step(self, step: Callable[[ObjectStore], None]) -> bool:
        """Whether it ended well."""
        store: ObjectStore = self.store
        if self.deaths:
            self.deaths -= 1
            store = MortalStore(self.store, self.random.randrange(8), after=self.random.random() < 0.5)
        try:
            step(store)
        except Killed:
            return False
        except EmbeddingAssetsError as error:
            self.troubles.append(str(error))
            return False
        return True

    def _compact(self, store: ObjectStore, spec: CollectionSpec) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            compact(store, spec, run_id=RUN_ID, scratch=Path(scratch))

    def end(self) -> None:
        """Bring the snapshots up to date, however little is missing."""
        for spec in self.catalog:
            self._step(lambda store, spec=spec: self._compact(store, spec))

    def repair(self) -> None:
        """What an operator types who trusts nothing."""
        for spec in self.catalog:
            with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                repair(self.store, spec, level="quick", run_id=RUN_ID, scratch=Path(scratch)).execute()

    def awaits(self, collection: str) -> bool:
        """Whether anything is pending, or has documents that were never asked for."""
        books = self.books(collection)
        asked = sum(cell.requested for cell in books)
        return asked < len(self.documents.get(collection, ())) or any(cell.pending for cell in books)

    def books(self, collection: str) -> list[CellBalance]:
        """The books of all cells of a collection."""
        spec = self.catalog.get(collection)
        return [balance(self.store, spec, day) for day in self.store.folders(layout.requests(collection))]
