"""Every write to the store is the last one in turn, every request to the API fails in turn, two runs go at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.discover import discover
from embedding_assets.batches.pending import pending_cells
from embedding_assets.catalog import Catalog
from embedding_assets.errors import ApiError, ApiUnavailableError
from embedding_assets.sandbox.faults import BatchFault, HttpFault
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets_tests.batches.conftest import TEXTS, World


class PowerLost(Exception):
    """The process is no more; nothing in the project catches this."""


class FailingStore(ObjectStore):
    """Does `writes` more writes, and is no more; `after` says whether the last one still reaches the store."""

    def __init__(self, store: ObjectStore, writes: int, after: bool) -> None:
        super().__init__(store._backend, store.url)
        self.left, self.after = writes, after

    def _count(self, write: Callable[[], None]) -> None:
        self.left -= 1
        if self.left < 0:
            if self.after:
                write()
            raise PowerLost
        write()

    def put_new(self, key: str, data: bytes) -> None:
        self._count(lambda: super(FailingStore, self).put_new(key, data))

    def upload(self, key: str, path: Path) -> None:
        self._count(lambda: super(FailingStore, self).upload(key, path))

    def delete(self, keys: Any) -> None:
        self._count(lambda: super(FailingStore, self).delete(keys))


def _run(world: World, step: Callable[[], Any], writes: int, after: bool) -> bool:
    """Run a step with a store that fails; whether it got to its end."""
    whole = world.store
    world.store = FailingStore(whole, writes, after)
    try:
        step()
    except PowerLost:
        return False
    finally:
        world.store = whole
    return True


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_a_crash_at_any_write_pays_nothing_twice_and_loses_nothing(
    world: World, make_world: Callable[..., World], after: bool
) -> None:
    points = 0
    for writes in range(100):
        fresh = make_world(world.sandbox)
        fresh.write([*TEXTS, ""])
        submit = lambda w=fresh: w.submit(batch_requests=4)  # noqa: E731
        if _run(fresh, submit, writes, after):
            break
        points += 1
        sent = fresh.submit(batch_requests=4)
        assert not any(row.cancelled for row in sent.rows)
        assert fresh.submit(batch_requests=4).rows == ()
        assert sorted(fresh.paid().values()) == [1, 1]
        if points % 4 == 0:
            fresh.settle()
            fresh.poll()
            books = fresh.balance()
            assert (books.requested, books.accepted, books.refused) == (9, 8, 1)
    assert points >= 10
    print(f"{points} crash points of a submission")


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_a_crash_at_any_write_of_a_landing_is_made_good_by_the_next(world: World, after: bool) -> None:
    world.submit(batch_requests=4)
    world.settle()
    points = 0
    for writes in range(100):
        if _run(world, world.poll, writes, after):
            break
        points += 1
    assert points >= 4
    world.poll()
    assert world.balance().accepted == 8
    assert {row.state for row in world.poll().batches} == {"unchanged"}


REQUESTS = [
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/files"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches*"),
    ("GET", "/v1/files/*"),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
@pytest.mark.parametrize(
    "fault", [{"status": 429, "retry_after": 0}, {"status": 500}, {"action": "drop"}, {"action": "cut"}]
)
def test_one_failing_request_is_made_good_at_once(world: World, method: str, path: str, fault: dict[str, Any]) -> None:
    world.sandbox.set_fault(HttpFault(method=method, path=path, times=1, **fault))
    world.submit()
    while any(not b.ended for b in world.batches()):
        pass
    world.poll()
    assert world.balance().accepted == 8
    assert list(world.paid().values()) == [1]


@pytest.mark.parametrize("after", [1, 1_500])
def test_a_download_that_breaks_off_is_read_from_its_beginning(world: World, after: int) -> None:
    world.sandbox.set_fault(BatchFault(finished=5, metadata={"collection": world.spec.name}))
    world.submit()
    world.settle()
    # Both files break off once: the errors, which are read first, and the vectors.
    for skip in (0, 1):
        world.sandbox.set_fault(
            HttpFault(method="GET", path="/v1/files/*/content", action="cut", after_bytes=after, skip=skip)
        )
    (row,) = world.poll().batches
    assert row.state == "landed"
    assert row.landing is not None
    assert (row.landing.accepted, row.landing.rejected, row.landing.missing) == (5, 3, 0)
    assert (row.landing.repeated, row.landing.stray) == (0, 0)


def test_an_api_that_stays_away_is_the_next_runs_matter(world: World) -> None:
    world.sandbox.set_fault(HttpFault(path="/v1/batches", method="POST", status=503, times=None))
    with pytest.raises(ApiUnavailableError, match="503"):
        world.submit()
    assert world.balance().unsent == 8
    world.sandbox.clear_faults()
    assert [row.action for row in world.submit().rows] == ["submitted"]
    assert list(world.paid().values()) == [1]


def test_one_batch_in_trouble_does_not_stop_the_others(world: World) -> None:
    world.submit(batch_requests=4)
    world.settle()
    world.sandbox.set_fault(HttpFault(method="GET", path="/v1/files/*/content", status=500, times=3))
    results = world.poll()
    assert results.count("landed", "trouble") == 2
    world.sandbox.clear_faults()
    world.poll()
    assert world.balance().accepted == 8


def test_a_wrong_key_is_said_before_anything_is_asked_and_is_never_shown(
    world: World,
) -> None:
    key = "sk-wrong-abcdefghijklmnop"
    world.api = EmbeddingApi(ApiSettings(key, world.sandbox.base_url))
    with pytest.raises(ApiError, match="API key is refused") as caught:
        world.submit()
    assert key not in str(caught.value)
    assert "mnop" not in str(caught.value)
    # Nothing but the store's identity and its copy, which planning writes.
    assert {item.key.split("/")[0] for item in world.store.walk("")} == {layout.IDENTITY, "_store"}


def test_a_wrong_dimension_is_found_before_anything_is_paid(world: World) -> None:
    with pytest.raises(ApiError, match="dimension"):
        world.submit(dimensions=65)
    assert world.paid() == {}


def test_two_runs_at_once_pay_once(world: World) -> None:
    world.write([f"text number {i}" for i in range(20)])
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(world.submit, batch_requests=5) for _ in range(4)]
        for run in runs:
            with contextlib.suppress(ApiUnavailableError):
                run.result()
    world.settle()
    world.poll()
    books = world.balance()
    assert (books.requested, books.accepted) == (20, 20)
    # The loser may find its own batch done already where batches take no time at all; every other is cancelled.
    assert len(books.batches) == 4


def test_a_duplicate_whose_run_died_is_cancelled_when_it_is_found(world: World) -> None:
    world.submit()
    (batch,) = world.batches()
    file_id = world.api._client.batches.retrieve(batch.id).input_file_id
    world.sandbox.set_fault(BatchFault(seconds=60))
    duplicate = world.api.create_batch(file_id, dict(batch.metadata))
    catalog = Catalog(collections={world.spec.name: world.spec})
    found = discover(world.api, world.store, catalog)
    assert found.duplicates == (duplicate.id,)
    world.settle()
    assert pending_cells(world.api, world.store, catalog).cells[0].finished
    world.poll()
    assert not pending_cells(world.api, world.store, catalog).cells
    assert list(world.paid().values()) == [1]
