"""Looks for work go on where the one before stopped, do no more than is needed, and forget nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from embedding_assets.batches import by_id, client, pending
from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.client import BatchPage, EmbeddingApi
from embedding_assets.batches.pending import pending_cells
from embedding_assets.batches.pending_work import PendingWork
from embedding_assets.batches.position import FULL_SECONDS, Budget, Position
from embedding_assets.batches.results import poll
from embedding_assets.batches.submit import submit
from embedding_assets.catalog import Catalog
from embedding_assets.errors import ApiUnavailableError
from embedding_assets.sandbox.faults import BatchFault, HttpFault, LineFault
from embedding_assets.sandbox.launch import Sandbox
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets_tests.batches.conftest import DAY, World

pytestmark = pytest.mark.service

OLD_DAY = layout.day_of(time.time() - 20 * 86_400)


class CountingApi(EmbeddingApi):
    """The real API; counts the pages of its list, and the batches that are asked for by id."""

    pages = 0
    batches = 0

    def retrieve(self, batch_id: str) -> ApiBatch:
        self.batches += 1
        return super().retrieve(batch_id)

    def page(self, after: str | None = None) -> BatchPage:
        self.pages += 1
        return super().page(after)


@pytest.fixture(scope="module")
def own_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A service whose list holds what these tests put there, and no more."""
    with Sandbox.start(tmp_path_factory.mktemp("service")) as sandbox:
        yield sandbox


@pytest.fixture
def seven(own_service: Sandbox, make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Seven batches of one record, which have finished; a page of the API's list holds two."""
    own_service.clear_faults()
    monkeypatch.setattr(client, "PAGE", 2)
    world = make_world(own_service, batch_requests=1)
    world.write([f"text {i}" for i in range(7)])
    world.submit()
    world.settle()
    yield world
    own_service.clear_faults()


def look(world: World, position: Position | None = None, pages: float = float("inf"), **options: Any) -> PendingWork:
    catalog = Catalog(collections={world.spec.name: world.spec})
    api = options.pop("api", world.api)
    return pending_cells(api, world.store, catalog, position=position, budget=Budget(pages), **options)


def counting(world: World) -> CountingApi:
    return CountingApi(ApiSettings(world.sandbox.api_key, world.sandbox.base_url), retries=0)


def submit_on_old_day(world: World) -> None:
    """One batch of seven records, as if the documents of that day had been asked for late."""
    world.write([f"old text {i}" for i in range(7)])
    (world.folder / "documents.jsonl").rename(world.folder / f"{OLD_DAY}.jsonl")
    daily = {"documents": str(world.folder / "{day}.jsonl"), "batch_requests": 50_000}
    submit(world.api, world.store, world.spec.model_copy(update=daily), OLD_DAY, today=DAY)


def finished(work: PendingWork) -> list[str]:
    return [batch for cell in work.cells for batch in cell.finished]


def test_looks_at_one_page_each_find_together_what_one_look_finds(seven: World) -> None:
    whole = look(seven)
    assert len(finished(whole)) == 7
    assert whole.position.over
    found, position = [], Position()
    while True:
        work = look(seven, position, pages=1)
        found += finished(work)
        position = Position.parse(work.position.to_text())  # as a cursor carries it
        assert position == work.position
        if position.over:
            break
    assert sorted(found) == sorted(finished(whole))


def test_where_nothing_is_under_way_a_look_reads_one_page(seven: World) -> None:
    seven.poll()
    api = counting(seven)
    position = look(seven, api=api).position
    assert api.pages > 3
    assert position.open == {}
    # Long after, so that none of the batches is of the time since the last round.
    position, api.pages = replace(position, began=time.time() + 3_600), 0
    work = look(seven, position, api=api)
    assert (api.pages, work.cells, work.position.over) == (1, (), True)


def test_what_is_under_way_is_looked_for_as_far_back_as_needed(seven: World) -> None:
    # Sent on an earlier day, and the newest batches of the list are others.
    seven.sandbox.set_fault(BatchFault(seconds=600, metadata={"day": OLD_DAY}))
    submit_on_old_day(seven)
    (slow,) = (b for b in seven.batches() if not b.ended)
    seven.write([f"other text {i}" for i in range(5)])
    seven.submit()
    seven.sandbox.clear_faults()
    first = look(seven)
    assert first.in_flight >= 1
    assert first.position.open[f"{seven.spec.name}/{OLD_DAY}"]
    later = replace(first.position, began=time.time() + 3_600)
    assert slow.id not in finished(look(seven, later))
    seven.api.cancel(slow.id)
    seven.settle()
    assert slow.id in finished(look(seven, later))


def test_what_was_settled_is_looked_at_again_every_hour(seven: World) -> None:
    submit_on_old_day(seven)
    seven.settle()
    seven.day = OLD_DAY
    (landing,) = seven.poll().landings
    seven.day = DAY
    seven.write([f"other text {i}" for i in range(5)])  # whose batches are the first in the list
    seven.round()
    before = look(seven).position
    assert before.open == {}
    seven.store.delete([f"{landing.folder}/{layout.MANIFEST}"])
    later = replace(before, began=time.time() + 3_600)
    # The cell is none of those that change; only what is of everything finds that it did.
    assert finished(look(seven, replace(later, full_at=time.time()))) == []
    assert finished(look(seven, replace(later, full_at=time.time() - FULL_SECONDS))) == [landing.batch_id]


@pytest.mark.parametrize("text", [None, "", "x", "[]", '{"left": 7}', '{"open": {"a": "b"}}'])
def test_a_cursor_that_cannot_be_read_is_none(text: str | None) -> None:
    assert Position.parse(text) == Position()
    assert Position.parse(text).full_is_due


def test_trouble_in_the_middle_of_the_list_keeps_what_was_read(seven: World) -> None:
    fault = HttpFault(method="GET", path="/v1/batches", status=429, retry_after=600, skip=2, times=None)
    seven.sandbox.set_fault(fault)
    api = counting(seven)
    work = look(seven, api=api)
    assert work.trouble is not None
    assert work.trouble.retry_after == 600
    assert len(finished(work)) == 4
    with pytest.raises(ApiUnavailableError):
        look(seven, work.position, api=api)
    seven.sandbox.clear_faults()
    rest = look(seven, work.position, api=api)
    assert len(finished(rest)) == 3
    assert rest.position.over


def test_a_list_that_begins_again_ends_the_round(seven: World) -> None:
    seven.sandbox.set_fault(HttpFault(method="GET", path="/v1/batches", action="first_page", times=None))
    work = look(seven)
    assert work.position.over
    assert len(finished(work)) == 7  # those that it did not show are asked for by their ids
    position = look(seven, pages=1).position
    assert look(seven, position, pages=1).position.over


def test_a_batch_that_is_gone_from_the_list_is_no_place_to_go_on_from(seven: World) -> None:
    position = replace(look(seven, pages=1).position, after="batch_that_is_gone")
    assert len(finished(look(seven, position))) == 7


def test_a_list_that_is_not_ordered_by_time_is_read_to_its_end(seven: World) -> None:
    class OldestFirst(CountingApi):
        def page(self, after: str | None = None) -> BatchPage:
            page = super().page(after)
            made = range(10 * self.pages, 10 * self.pages + len(page.batches))
            return replace(
                page, batches=tuple(replace(b, created_at=at) for b, at in zip(page.batches, made, strict=True))
            )

    api = OldestFirst(ApiSettings(seven.sandbox.api_key, seven.sandbox.base_url), retries=0)
    assert len(finished(look(seven, api=api))) == 7


def test_a_list_of_what_is_recent_is_not_read_to_its_end(seven: World) -> None:
    api = counting(seven)
    everything = list(api.list_batches())
    assert len(everything) >= 7
    assert api.pages > 3
    api.pages = 0
    newest = everything[0].created_at
    assert [b.id for b in api.list_batches(newest + 1)] == [b.id for b in everything[:2]]
    assert api.pages == 1


def test_many_batches_are_polled_by_the_page(seven: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_id, "PAGE", 2)
    api = counting(seven)
    assert poll(api, seven.store, seven.spec, DAY).count("landed") == 7
    assert api.batches == 0
    assert seven.balance().accepted == 7


def test_records_that_were_given_up_are_counted_once(
    own_service: Sandbox, make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    own_service.clear_faults()
    world = make_world(own_service, attempts=1)
    world.write()
    own_service.set_fault(BatchFault(lines=(LineFault("nan", 2),), metadata={"collection": world.spec.name}))
    world.round()
    counted = []
    real = pending.read_standing
    monkeypatch.setattr(pending, "read_standing", lambda *args: counted.append(args) or real(*args))
    work = look(world)
    assert (work.cells, len(counted)) == ((), 1)
    again = look(world, replace(work.position, full_at=0))
    assert (again.cells, len(counted)) == ((), 1)
    # With more attempts they are not given up any more.
    world.spec = world.spec.model_copy(update={"attempts": 2})
    assert [cell.again for cell in look(world, again.position).cells] == [2]


def test_a_store_without_anything_asks_for_nothing(own_service: Sandbox, make_world: Callable[..., World]) -> None:
    own_service.clear_faults()
    work = look(make_world(own_service))
    assert (work.cells, work.in_flight, work.position.open) == ((), 0, {})
