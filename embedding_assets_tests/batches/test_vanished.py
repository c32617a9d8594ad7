"""A batch that is not in the API's list is looked up by its id, in good time and not more often than needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from embedding_assets.batches.answers import ApiBatch, batch_of
from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.awaited import is_late
from embedding_assets.batches.client import ApiMissingError, BatchPage, EmbeddingApi
from embedding_assets.batches.files import StoredFile
from embedding_assets.batches.pending import pending_cells
from embedding_assets.batches.position import Budget, Position
from embedding_assets.batches.requests import SentBatch, commit_batch, commit_intent
from embedding_assets.batches.submit import COLLECTION_KEY, DAY_KEY, REQUEST_KEY
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.pipeline.pending import cells_to_run
from embedding_assets.pipeline.status import collection_status
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.sandbox.faults import BatchFault
from embedding_assets.sandbox.launch import Sandbox
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets.store.objects import open_store
from embedding_assets.store.sealed import decode, seal
from embedding_assets.vectorstore.inventory import take_inventory
from embedding_assets_tests.batches.conftest import World

pytestmark = pytest.mark.service


class Clock:
    """`layout.now`, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta()
        real = layout.now
        monkeypatch.setattr(layout, "now", lambda: real() + self.ahead)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Another server behind the URL: it knows none of the batches."""
    with Sandbox.start(tmp_path_factory.mktemp("empty"), api_key="sk-sandbox-0123456789") as sandbox:
        yield sandbox


@pytest.fixture
def sent(service: Sandbox, make_world: Callable[..., World]) -> Iterator[World]:
    """Two batches of four records which the service holds for long."""
    service.clear_faults()
    world = make_world(service, batch_requests=4)
    world.write()
    service.set_fault(BatchFault(seconds=600, times=None, metadata={"collection": world.spec.name}))
    world.submit()
    yield world
    service.clear_faults()
    moved_to(world, service)
    for batch in world.batches():
        world.api.cancel(batch.id)


def catalog_of(world: World) -> Catalog:
    return Catalog(collections={world.spec.name: world.spec})


def moved_to(world: World, sandbox: Sandbox) -> None:
    world.api = EmbeddingApi(ApiSettings(sandbox.api_key, sandbox.base_url), retries=0)


@pytest.mark.parametrize("days", [3, 20, 36, 400])
@pytest.mark.parametrize("remembered", [True, False])
def test_what_the_api_forgot_is_settled_and_asked_again(
    sent: World, empty: Sandbox, clock: Clock, days: int, remembered: bool
) -> None:
    position = cells_to_run(sent.api, sent.store, catalog_of(sent))[1].position
    moved_to(sent, empty)
    assert cells_to_run(sent.api, sent.store, catalog_of(sent))[0] == []  # it may come back
    clock.ahead = timedelta(days=days)
    (cell,), _ = cells_to_run(sent.api, sent.store, catalog_of(sent), position=position if remembered else None)
    assert (cell.collection, cell.day, cell.reasons) == (
        sent.spec.name,
        sent.day,
        ("2 batches are unknown to the API",),
    )
    assert sent.poll().count("lost") == 2
    (cell,), _ = cells_to_run(sent.api, sent.store, catalog_of(sent))
    assert cell.reasons == ("8 records are to be asked again",)
    assert sent.submit().count("submitted") == 8
    sent.settle()
    sent.poll()
    books = sent.balance()
    assert (books.requested, books.accepted, books.pending) == (8, 8, 0)


def test_what_never_ends_is_told_by_its_cell_and_goes_on_to_wait(sent: World, clock: Clock, tmp_path: Path) -> None:
    assert cells_to_run(sent.api, sent.store, catalog_of(sent))[0] == []
    assert not sent.balance().late
    clock.ahead = timedelta(days=3)
    (cell,), work = cells_to_run(sent.api, sent.store, catalog_of(sent))
    assert cell.reasons == ("2 batches have not ended long after the end of the window",)
    (same,), _ = cells_to_run(sent.api, sent.store, catalog_of(sent), position=work.position)
    assert (same.state, same.once) == (cell.state, True)  # which needs no second run
    assert sent.poll().count("pending") == 2
    books = sent.balance()
    assert (len(books.late), books.pending) == (2, 8)
    rows = [row for row in check_collection(sent.store, sent.spec, "quick", tmp_path).rows if row["kind"] == "batch"]
    assert len(rows) == 2
    for row in rows:
        assert f"{row['name']}: {row['state']}" in books.late
        # The API's word, and since when.
        assert str(row["state"]).startswith("it is still `in_progress` 72 hours after it was sent (20")
    assert collection_status(sent.store, sent.spec).late == tuple(f"batch {one}" for one in books.late)
    # What is noted of it belongs to the batch.
    inventory = take_inventory(sent.store, sent.spec.name)
    assert not inventory.strays


@pytest.mark.parametrize(
    ("expires_at", "hours"),
    [
        (None, 48),
        ("soon", 48),
        (float("inf"), 48),
        ([], 48),
        (0, 48),
        (1_700_000_000 - 1, 48),  # before it was created
        ((1_700_000_000 + 3600) * 1000, 48),  # milliseconds
        (1_700_000_000 + 3600, 25),
        (str(1_700_000_000 + 7 * 86_400), 8 * 24),
    ],
)
def test_a_batch_is_late_a_day_after_its_window(monkeypatch: pytest.MonkeyPatch, expires_at: Any, hours: int) -> None:
    raw = {"id": "batch_1", "status": "in_progress", "created_at": 1_700_000_000, "expires_at": expires_at}
    start = datetime.fromtimestamp(1_700_000_000, timezone.utc)
    for after, late in ((hours * 3600, False), (hours * 3600 + 1, True)):
        monkeypatch.setattr(layout, "now", lambda after=after: start + timedelta(seconds=after))
        assert is_late(batch_of(raw)) is late


def test_a_batch_recorded_by_an_earlier_version_has_the_usual_window(sent: World, clock: Clock) -> None:
    (key, *_) = [one.key for one in sent.store.walk(layout.requests(sent.spec.name)) if one.key.endswith("/batch.json")]
    found = decode(SentBatch, key, sent.store.get(key))
    assert found.expires_at == found.created_at + 86_400
    old = {name: value for name, value in asdict(found).items() if name != "expires_at"}
    sent.store.delete([key])
    sent.store.put_new(key, seal("sent batch", key, old))
    assert not sent.balance().late
    clock.ahead = timedelta(days=3)
    assert any(found.batch_id in one for one in sent.balance().late)


class ShiftingApi(EmbeddingApi):
    """An API whose list and knowledge of batches are set by hand; notes when it showed which."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.url = clock, "http://shifting"
        self.known: dict[str, ApiBatch] = {}
        self.listed: list[str] = []
        self.shown: dict[str, float] = {}
        self.asked: list[tuple[str, float]] = []

    def page(self, after: str | None = None) -> BatchPage:
        ids = [one for one in self.listed if one in self.known]
        if after is not None and after not in ids:
            raise ApiMissingError(after, "is not there", "")
        start = 0 if after is None else ids.index(after) + 1
        some = ids[start : start + 3]
        self.shown.update(dict.fromkeys(some, layout.now().timestamp()))
        return BatchPage(tuple(self.known[one] for one in some), len(ids) > start + 3)

    def retrieve(self, batch_id: str) -> ApiBatch:
        self.asked.append((batch_id, layout.now().timestamp()))
        self.shown[batch_id] = layout.now().timestamp()
        if batch_id not in self.known:
            raise ApiMissingError(batch_id, "is not there", "")
        return self.known[batch_id]


EVENTS = ["tick", "tick", "tick", "send", "finish", "unlist", "list", "forget", "reorder"]


@hypothesis.settings(max_examples=25, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(
    st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 99), st.integers(30, 500)), min_size=30, max_size=80)
)
def test_each_unsettled_batch_is_looked_at_within_an_hour_and_by_id_only_where_it_is_not_listed(
    clock: Clock, history: list[tuple[str, int, int]]
) -> None:
    clock.ahead = timedelta()
    spec = CollectionSpec.model_validate({"name": "lines", "model": "m", "dimensions": 4})
    catalog, store, api = Catalog(collections={"lines": spec}), open_store("memory://"), ShiftingApi(clock)
    position, settled, number = Position(), set[str](), 0
    for event, which, seconds in history:
        ids = list(api.known)
        one = ids[which % len(ids)] if ids else None
        if event == "send":
            number += 1
            batch_id, request_id = f"batch_{number}", f"{number:012x}".ljust(32, "0")
            now = layout.now().timestamp()
            day = layout.day_of(now - 86_400 * (which % 50))
            file = StoredFile("x.parquet", 1, "0" * 64)
            request = Request(request_id, "lines", "m", 4, day, 1, 1, layout.new_id(), file, file)
            commit_intent(store, request)
            commit_batch(store, request.folder, SentBatch(batch_id, int(now), "file"))
            metadata = {COLLECTION_KEY: "lines", DAY_KEY: day, REQUEST_KEY: request_id}
            api.known[batch_id] = ApiBatch(batch_id, "in_progress", int(now), metadata=metadata)
            api.listed.insert(0, batch_id)
            position = position.with_open([("lines", day)], sent=True)
            api.shown[batch_id] = now
        elif event == "finish" and one:
            api.known[one] = replace(api.known[one], status="completed")
        elif event == "unlist" and one in api.listed:
            api.listed.remove(one)
        elif event == "list" and one and one not in api.listed:
            api.listed.insert(which % (len(api.listed) + 1), one)
        elif event == "forget" and one:
            del api.known[one]
        elif event == "reorder":
            api.listed.reverse()
        elif event == "tick":
            clock.ahead += timedelta(seconds=seconds)
            work = pending_cells(api, store, catalog, position=position, budget=Budget(pages=10))
            position = Position.parse(work.position.to_text())
            for cell in work.cells:
                for ended in {*cell.finished, *cell.forgotten} - settled:
                    settled.add(ended)
                    store.put_new(f"{layout.results('lines', cell.day, ended, layout.new_id())}/{layout.MANIFEST}", b"")
            late = {
                batch: layout.now().timestamp() - at
                for batch, at in api.shown.items()
                if batch not in settled and layout.now().timestamp() - at > 3600
            }
            assert not late
    by_batch: dict[str, list[float]] = {}
    for batch, at in api.asked:
        by_batch.setdefault(batch, []).append(at)
    for times in by_batch.values():
        assert all(later - before >= 3000 for before, later in pairwise(times)), times
