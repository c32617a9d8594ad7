"""A batch that does not end: a person looks, polls, cancels, or gives it up; nothing is lost or doubled by it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.client import BatchPage, EmbeddingApi
from embedding_assets.batches.requests import SentBatch
from embedding_assets.catalog import Catalog
from embedding_assets.errors import ConfigurationError, EmbeddingAssetsError, ObjectMissingError
from embedding_assets.pipeline.batches import (
    cancel_batches,
    give_up_batches,
    list_batches,
    open_batches,
    poll_batches,
    sent_batches,
)
from embedding_assets.pipeline.named import require_named
from embedding_assets.pipeline.pending import cells_to_run
from embedding_assets.sandbox.faults import BatchFault
from embedding_assets.sandbox.launch import Sandbox
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets.store.sealed import decode, encode
from embedding_assets_tests.batches.conftest import World
from embedding_assets_tests.cells import contents

pytestmark = pytest.mark.service


class HoldingApi(EmbeddingApi):
    """An API that shows some batches as under way, whatever they are."""

    held: frozenset[str] = frozenset()
    status = "in_progress"

    def retrieve(self, batch_id: str) -> ApiBatch:
        return self._shown(super().retrieve(batch_id))

    def page(self, after: str | None = None) -> BatchPage:
        page = super().page(after)
        return replace(page, batches=tuple(map(self._shown, page.batches)))

    def _shown(self, batch: ApiBatch) -> ApiBatch:
        if batch.id not in self.held:
            return batch
        return replace(batch, status=self.status, output_file_id=None, error_file_id=None)


@pytest.fixture
def stuck(service: Sandbox, make_world: Callable[..., World]) -> World:
    """Two batches of four records which the API calls `in_progress`; what is asked after them ends at once."""
    service.clear_faults()
    world = make_world(service, batch_requests=4)
    world.api = HoldingApi(ApiSettings(service.api_key, service.base_url), retries=0)
    world.write()
    world.submit()
    world.settle()
    hold(world, open_batches(world.store, world.spec.name))
    return world


def hold(world: World, ids: Sequence[str] = ()) -> None:
    """Let the API call these batches, and no others, `in_progress`."""
    assert isinstance(world.api, HoldingApi)
    world.api.held = frozenset(ids)


@pytest.fixture
def slow(service: Sandbox, make_world: Callable[..., World]) -> Iterator[World]:
    """Two batches of four records that are under way for long."""
    service.clear_faults()
    world = make_world(service, batch_requests=4)
    world.write()
    service.set_fault(BatchFault(seconds=600, times=2, metadata={"collection": world.spec.name}))
    world.submit()
    yield world
    service.clear_faults()
    for batch in world.batches():
        world.api.cancel(batch.id)


def no_api() -> EmbeddingApi:
    raise ConfigurationError("OPENAI_API_KEY", "is not set", "Set it.")


def test_what_a_person_gives_up_is_asked_again_once(stuck: World) -> None:
    ids = open_batches(stuck.store, stuck.spec.name)
    planned = give_up_batches(stuck.store, stuck.spec, ids[:1])
    assert stuck.balance().again == 0  # a plan does nothing
    planned.execute()
    assert give_up_batches(stuck.store, stuck.spec, ids[:1]).nothing
    books = stuck.balance()
    assert (books.again, books.in_flight, books.requested) == (4, 4, 8)
    # A process that died here leaves nothing else behind, and the next look finds the rest.
    catalog = Catalog(collections={stuck.spec.name: stuck.spec})
    (cell,), _ = cells_to_run(stuck.api, stuck.store, catalog)
    assert (cell.reasons, cell.ask) == (("4 records are to be asked again",), True)
    assert stuck.submit(attempts=1).count("submitted") == 4  # no attempt is used up
    assert not stuck.submit().rows
    hold(stuck)
    stuck.settle()
    hold(stuck, ids)
    stuck.poll()
    books = stuck.balance()
    assert (books.requested, books.accepted, books.in_flight, books.again) == (8, 4, 4, 0)
    assert set(open_batches(stuck.store, stuck.spec.name)) == set(ids)


@pytest.mark.parametrize(
    "steps",
    [
        ("give up", "submit", "end", "poll"),
        ("give up", "end", "poll", "submit"),
        ("give up", "end", "submit", "poll"),
        ("end", "give up", "poll", "submit"),
        ("give up", "submit", "give up", "submit", "end", "poll"),
    ],
    ids=" ".join,
)
def test_late_answers_are_taken_and_nothing_is_doubled(stuck: World, steps: tuple[str, ...]) -> None:
    ids = open_batches(stuck.store, stuck.spec.name)
    for step in steps:
        if step == "give up":
            give_up_batches(stuck.store, stuck.spec, open_batches(stuck.store, stuck.spec.name)).execute()
        elif step == "submit":
            stuck.submit(attempts=1)
        elif step == "end":
            hold(stuck)
            stuck.settle()
        else:
            rows = {row.batch_id: row.state for row in stuck.poll().batches}
            assert {rows[one] for one in ids} == {"landed"}  # late, and taken all the same
            assert stuck.balance().accepted == 8
        books = stuck.balance()  # which asserts that they are balanced
        assert (books.requested, books.rejected) == (8, 0)
    stuck.submit(attempts=1)
    stuck.settle()
    stuck.poll()
    books = stuck.balance()
    assert (books.requested, books.accepted, books.pending) == (8, 8, 0)
    assert open_batches(stuck.store, stuck.spec.name) == []


def test_a_batch_that_was_given_up_is_late_no_more(stuck: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = layout.now
    monkeypatch.setattr(layout, "now", lambda: real() + timedelta(days=3))
    stuck.poll()
    ids = open_batches(stuck.store, stuck.spec.name)
    rows = list_batches(stuck.store, stuck.spec, lambda: stuck.api, only_open=True).rows
    assert {(row["name"], row["state"], row["api"], row["waits_for"]) for row in rows} == {
        (one, "in flight", "in_progress", "the API: late") for one in ids
    }
    assert len(stuck.balance().late) == 2
    give_up_batches(stuck.store, stuck.spec, ids).execute()
    assert stuck.balance().late == []
    stuck.submit()
    stuck_still, _ = cells_to_run(stuck.api, stuck.store, Catalog(collections={stuck.spec.name: stuck.spec}))
    assert not any("window" in reason for cell in stuck_still for reason in cell.reasons)


def test_the_list_says_what_is_known_where_the_api_does_not_answer(stuck: World) -> None:
    nowhere = EmbeddingApi(ApiSettings("sk-x", "http://127.0.0.1:9/v1"), retries=0)
    for api in (no_api, lambda: nowhere):
        found = list_batches(stuck.store, stuck.spec, api)
        assert [(row["state"], row["api"], row["requested"]) for row in found.rows] == [("in flight", None, 4)] * 2
        assert "the API was not asked, or did not answer" in found.summary


def test_cancelled_by_hand_and_polled_by_hand(slow: World) -> None:
    ids = open_batches(slow.store, slow.spec.name)
    planned = cancel_batches(lambda: slow.api, slow.store, slow.spec, ids[:1])
    assert [row["api"] for row in planned.rows] == ["in_progress"]
    assert slow.api.retrieve(ids[0]).status == "in_progress"
    planned.execute()
    until = time.monotonic() + 20
    while not slow.api.retrieve(ids[0]).ended:
        assert time.monotonic() < until
    assert cancel_batches(lambda: slow.api, slow.store, slow.spec, ids[:1]).nothing
    polling = poll_batches(lambda: slow.api, slow.store, slow.spec, ids[:1])
    assert slow.balance().in_flight == 8
    (row,) = polling.execute().rows
    assert (row["name"], row["state"], row["api"], row["accepted"]) == (ids[0], "landed", "cancelled", 0)
    books = slow.balance()
    assert (books.again, books.in_flight) == (4, 4)


@pytest.mark.parametrize("how", ["another program's", "another store's"])
def test_what_this_store_did_not_create_is_not_cancelled(slow: World, how: str) -> None:
    ids = sent_batches(slow.store, slow.spec.name)
    if how == "another program's":
        (key,) = [
            one.key
            for one in slow.store.walk(layout.requests(slow.spec.name))
            if one.key.endswith("/batch.json")
            and decode(SentBatch, one.key, slow.store.get(one.key)).batch_id == ids[0]
        ]
        sent = decode(SentBatch, key, slow.store.get(key))
        slow.store.delete([key])
        slow.store.put_new(key, encode(replace(sent, foreign=True), key))
        api = slow.api
    else:
        api = _Disguised(ApiSettings(slow.sandbox.api_key, slow.sandbox.base_url), retries=0)
    before = contents(slow.store)
    with pytest.raises(EmbeddingAssetsError, match=f"{ids[0]}.* not created by this store; nothing was done"):
        cancel_batches(lambda: api, slow.store, slow.spec, ids)
    assert contents(slow.store) == before
    assert {slow.api.retrieve(one).status for one in ids} == {"in_progress"}


class _Disguised(EmbeddingApi):
    """An API whose batches all carry another store's identity."""

    def retrieve(self, batch_id: str) -> ApiBatch:
        found = super().retrieve(batch_id)
        return replace(found, metadata={**found.metadata, "embedding_assets_store": "0" * 32})


def test_a_batch_of_two_collections_must_be_told_apart(stuck: World) -> None:
    twin = stuck.spec.model_copy(update={"name": f"{stuck.spec.name}-twin"})
    for item in list(stuck.store.walk(layout.requests(stuck.spec.name))):
        stuck.store.put_new(item.key.replace(stuck.spec.name, twin.name, 1), _moved(stuck, item.key, twin.name))
    ids = open_batches(stuck.store, stuck.spec.name)
    require_named(stuck.store, [stuck.spec], ("open batch", ids))
    with pytest.raises(ConfigurationError, match="are of several of"):
        require_named(stuck.store, [stuck.spec, twin], ("open batch", ids))
    with pytest.raises(ObjectMissingError, match="batch of which nothing has landed nosuch"):
        require_named(stuck.store, [stuck.spec], ("open batch", ["nosuch"]))


def _moved(world: World, key: str, name: str) -> bytes:
    """An object as it would be in another collection; seals name their key."""
    data, there = world.store.get(key), key.replace(world.spec.name, name, 1)
    if key.endswith("/batch.json"):
        return encode(decode(SentBatch, key, data), there)
    if key.endswith("/request.json"):
        return encode(replace(decode(Request, key, data), collection=name), there)
    return data
