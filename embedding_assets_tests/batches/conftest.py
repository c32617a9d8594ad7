"""A running service and a store for each test; the real client, the real files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.balance import CellBalance, balance
from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.results import CellResults, poll
from embedding_assets.batches.submit import REQUEST_KEY, Submission, submit
from embedding_assets.catalog import CollectionSpec
from embedding_assets.pipeline.landings import move_landings_aside
from embedding_assets.sandbox.launch import Sandbox
from embedding_assets.settings import ApiSettings
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets_tests.moved_clock import later

DAY = time.strftime("%Y-%m-%d", time.gmtime())
DIMENSIONS = 64
TEXTS = ["milk", "bread", "butter and eggs", "total amount", "thank you for shopping", "cash", "change", "apples"]


@dataclass
class World:
    """A collection, its store, and the service."""

    folder: Path
    sandbox: Sandbox
    api: EmbeddingApi
    store: ObjectStore
    spec: CollectionSpec
    day: str = DAY

    def write(self, texts: Sequence[str] = TEXTS, first: int = 0) -> None:
        """Make these texts the documents of the collection."""
        lines = [{"id": f"D#{i + first}", "text": t, "metadata": {"n": i + first}} for i, t in enumerate(texts)]
        (self.folder / "documents.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def submit(self, **changes: Any) -> Submission:
        return submit(self.api, self.store, self.spec.model_copy(update=changes), self.day, today=DAY)

    def poll(self, **options: Any) -> CellResults:
        found = poll(self.api, self.store, self.spec, self.day, **options)
        move_landings_aside(self.store, self.spec.name, found.damaged, run_id="test")
        return found

    def balance(self) -> CellBalance:
        books = balance(self.store, self.spec, self.day)
        assert books.balanced, books
        return books

    def settle(self) -> None:
        """Wait until the service has nothing under way."""
        until = time.monotonic() + 20
        while any(not b.ended and b.status_known for b in self.api.list_batches()):
            assert time.monotonic() < until, "the service did not finish"
            time.sleep(0.03)

    @contextmanager
    def later(self, days: float) -> Iterator[None]:
        """So many days from now, for as long as the block lasts."""
        with later(days * 24):
            yield

    def round(self, **options: Any) -> CellResults:
        """Submit what there is to submit, wait, land."""
        self.submit()
        self.settle()
        return self.poll(**options)

    def batches(self) -> list[ApiBatch]:
        """This collection's batches."""
        return [b for b in self.api.list_batches() if b.metadata.get("collection") == self.spec.name]

    def paid(self) -> dict[str, int]:
        """Batches by request id that were not cancelled: each is paid."""
        counts: dict[str, int] = {}
        for batch in self.batches():
            if batch.status not in ("cancelled", "cancelling"):
                key = batch.metadata.get(REQUEST_KEY, "")
                counts[key] = counts.get(key, 0) + 1
        return counts


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One service for all tests that need nothing special of it; its batches pile up, so collections have own names."""
    with Sandbox.start(tmp_path_factory.mktemp("service"), api_key="sk-sandbox-0123456789") as sandbox:
        yield sandbox


@pytest.fixture
def make_world(tmp_path: Path) -> Callable[..., World]:
    def make(sandbox: Sandbox, store: ObjectStore | None = None, **spec: Any) -> World:
        folder = tmp_path / "documents"
        folder.mkdir(exist_ok=True)
        name = f"c{abs(hash((str(tmp_path), time.monotonic_ns()))) % 10**12}"
        declared: dict[str, Any] = {
            "name": name,
            "model": "wordllama-256",
            "dimensions": DIMENSIONS,
            "documents": str(folder / "documents.jsonl"),
            **spec,
        }
        api = EmbeddingApi(ApiSettings(sandbox.api_key, sandbox.base_url), retries=2)
        store = store or open_store((tmp_path / "store").as_uri())
        return World(folder, sandbox, api, store, CollectionSpec.model_validate(declared))

    return make


@pytest.fixture
def world(service: Sandbox, make_world: Callable[..., World]) -> Iterator[World]:
    """A collection of eight documents that a service which behaves well serves."""
    service.clear_faults()
    made = make_world(service)
    made.write()
    yield made
    service.clear_faults()
