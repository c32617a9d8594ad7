"""A collection on one day with the real service behind it, driven as a user or a sensor drives it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from embedding_assets.batches.balance import CellBalance, balance
from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.pending import pending_cells
from embedding_assets.batches.requests import read_requests
from embedding_assets.batches.results import CellResults
from embedding_assets.batches.submit import Submission
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.pipeline.cells import CellDeltas, build_cell_deltas, land_cell, submit_cell
from embedding_assets.pipeline.kinds import as_held
from embedding_assets.pipeline.pending import CellToRun, cells_to_run
from embedding_assets.pipeline.proofs import SnapshotProof, prove_snapshot
from embedding_assets.reading import Collection
from embedding_assets.sandbox import Sandbox
from embedding_assets.settings import ApiSettings, Settings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.compact import Compaction, compact

# Not today, so that no test cares when midnight is.
DAY = layout.day_of((layout.now() - timedelta(days=1)).timestamp())
PATIENCE_SECONDS = 60.0
_GOODS = ("whole milk", "rye bread", "butter", "apples", "green tea", "soap", "rice", "olive oil")


def receipt_lines(count: int) -> dict[str, str]:
    """Texts by id; no two are equal."""
    return {f"line-{n:05d}": f"{_GOODS[n % len(_GOODS)]} {n} {n % 9}.{n % 100:02d}" for n in range(count)}


def own_name(prefix: str = "lines") -> str:
    """A collection's name that no other test has: they share one service, which would know their batches again."""
    return f"{prefix}-{layout.new_id().lower()}"


@dataclass(frozen=True)
class Cell:
    """One collection on one day: its documents, its store, and the service."""

    sandbox: Sandbox
    api: EmbeddingApi
    store: ObjectStore
    spec: CollectionSpec
    folder: Path
    day: str = DAY

    @classmethod
    def make(cls, sandbox: Sandbox, folder: Path, **declared: object) -> Cell:
        """A collection without documents, in an empty store in a folder."""
        spec = {
            "name": own_name(),
            "model": "wordllama-256",
            "dimensions": 64,
            "documents": f"{folder}/documents/{{day}}.jsonl",
            **declared,
        }
        api = EmbeddingApi(ApiSettings(sandbox.api_key, sandbox.base_url), retries=1)
        store = open_store(f"file://{folder}/store")
        return cls(sandbox, api, store, CollectionSpec.model_validate(spec), folder)

    def copy(self, folder: Path) -> Cell:
        """The same with a copy of the store, to be damaged; the service knows the batches of both."""
        shutil.copytree(self.folder / "store", folder / "store")
        shutil.copytree(self.folder / "documents", folder / "documents")
        spec = self.spec.model_copy(update={"documents": f"{folder}/documents/{{day}}.jsonl"})
        return dataclasses.replace(self, store=open_store(f"file://{folder}/store"), spec=spec, folder=folder)

    def write(self, texts: Mapping[str, str]) -> None:
        """Make these the day's documents."""
        write_documents(self.folder / "documents" / f"{self.day}.jsonl", texts)

    def submit(self) -> Submission:
        """Ask for what was not asked for yet."""
        return submit_cell(self.api, self.store, self.spec, self.day)

    def wait(self) -> None:
        """Until none of the collection's batches is under way."""
        wait_for_batches(self.api, self.store, self.catalog)

    def land(self, *forced: str) -> CellResults:
        """Land what has finished."""
        return land_cell(self.api, self.store, self.spec, self.day, frozenset(forced))

    def build(self, store: ObjectStore | None = None) -> CellDeltas:
        """Build deltas of what has landed."""
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        done = build_cell_deltas(store or self.store, self.spec, self.day, run_id="test", scratch=scratch)
        assert list(scratch.iterdir()) == []
        return done

    def deliver(self) -> CellDeltas:
        """All of this, once."""
        self.submit()
        self.wait()
        self.land()
        return self.build()

    def compact(self) -> Compaction:
        """Bring the snapshot up to date."""
        done = compact(self.store, self.spec, run_id="test", scratch=self.folder)
        assert done is not None
        return done

    def to_run(self) -> list[CellToRun]:
        """What a sensor would ask for."""
        return cells_to_run(self.api, self.store, self.catalog)[0]

    def books(self) -> CellBalance:
        """The cell's balance, which is right at every moment."""
        books = balance(self.store, as_held(self.store, self.spec), self.day)
        assert books.balanced, books
        return books

    def read(self) -> Collection:
        """The snapshot as programs read it."""
        settings = Settings("test", self.store.url, Path("unused"), self.folder / "cache")
        api, spec = self.api, self.spec
        return Collection(
            self.store, spec, settings, embed=lambda texts: api.embed(list(texts), spec.model, spec.dimensions)
        )

    def batch_ids(self) -> list[str]:
        """Its batches, in the order they were asked."""
        return [a.batch.batch_id for a in read_requests(self.store, self.spec.name, self.day) if a.batch]

    def proof(self) -> SnapshotProof:
        """The current snapshot, proved."""
        with TemporaryDirectory(dir=self.folder) as scratch:
            return prove_snapshot(self.store, self.spec, Path(scratch))

    @property
    def catalog(self) -> Catalog:
        """A catalog of this collection alone."""
        return Catalog(collections={self.spec.name: self.spec})


def write_documents(path: Path, texts: Mapping[str, str]) -> None:
    """Texts by id as a file of documents, each with some metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"id": i, "text": t, "metadata": {"letters": len(t), "at": f"of {i}"}} for i, t in texts.items()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def wait_for_batches(api: EmbeddingApi, store: ObjectStore, catalog: Catalog) -> None:
    """Until the service has none of these collections' batches under way."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while pending_cells(api, store, catalog).in_flight:
        assert time.monotonic() < deadline, "the service does not finish"
        time.sleep(0.05)


def wait_for_another_second() -> None:
    """Until a batch that is created now is later than those before: the API gives whole seconds."""
    second = int(time.time())
    while int(time.time()) == second:
        time.sleep(0.02)


def paid(cell: Cell) -> int:
    """How many records the service was asked to embed for a collection, in all batches that there ever were."""
    batches = (batch for batch in cell.api.list_batches(0) if batch.metadata.get("collection") == cell.spec.name)
    return sum(batch.requests[0] for batch in batches)


def contents(store: ObjectStore) -> list[tuple[str, int, str]]:
    """Every object of a store with size and time of writing: equal before and after where nothing was written."""
    return [
        (item.key, item.size, item.modified.isoformat())
        for item in store.walk("")
        if not item.key.startswith("_unclaimed/")
    ]


def flip(store: ObjectStore, key: str) -> None:
    """Turn over one bit in the middle of an object."""
    data = bytearray(store.get(key))
    data[len(data) // 2] ^= 1
    store.replace(key, bytes(data))
