"""Two deployments with equal collections and documents on one API account: neither touches the other's batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from embedding_assets.batches.balance import balance
from embedding_assets.batches.discover import Discovery, discover
from embedding_assets.batches.identity import STORE_KEY, creator_of, identity_of, identity_problem, known_identity
from embedding_assets.batches.pending import pending_cells
from embedding_assets.batches.requests import commit_batch, read_requests
from embedding_assets.catalog import Catalog
from embedding_assets.errors import CorruptedError
from embedding_assets.sandbox.faults import BatchFault
from embedding_assets.sandbox.launch import Sandbox
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets_tests.batches.conftest import DAY, World
from embedding_assets_tests.batches.test_crashes import FailingStore, PowerLost


@pytest.fixture
def both(tmp_path: Path, make_world: Callable[..., World]) -> Iterator[tuple[World, World]]:
    """Two stores, one service, one collection with eight documents."""
    with Sandbox.start(tmp_path / "service") as sandbox:
        one = make_world(sandbox)
        one.write()
        yield one, replace(one, store=open_store((tmp_path / "second").as_uri()))


def found_by(world: World) -> Discovery:
    return discover(world.api, world.store, Catalog(collections={world.spec.name: world.spec}))


def look(world: World) -> list[str]:
    """One tick of the sensor and one look for other programs' batches; what they would cancel."""
    work = pending_cells(world.api, world.store, Catalog(collections={world.spec.name: world.spec}))
    assert not work.foreign
    found = found_by(world)
    assert not found.claimed
    assert not found.unclaimed
    return [*(batch.id for batch in work.doubled), *found.duplicates]


def sent(world: World) -> dict[str, str]:
    """Batch by request."""
    asked = read_requests(world.store, world.spec.name, DAY)
    return {item.request.request_id: item.batch.batch_id for item in asked if item.batch}


def test_interleaved_neither_cancels_adopts_or_counts_the_others_batches(both: tuple[World, World]) -> None:
    one, two = both
    one.sandbox.set_fault(BatchFault(seconds=3600, times=None))
    assert one.submit(batch_requests=4).count("submitted") == 8
    assert two.submit(batch_requests=4).count("submitted") == 8
    assert len(sent(one).keys() | sent(two).keys()) == 4
    for world in (one, two, one):
        assert look(world) == []
        assert world.submit(batch_requests=4).rows == ()
        assert found_by(world).elsewhere == 2
    assert not any(batch.status in ("cancelled", "cancelling") for batch in one.api.list_batches())


def test_one_that_has_long_finished_does_not_touch_the_other(both: tuple[World, World]) -> None:
    one, two = both
    one.round()
    assert one.balance().accepted == 8
    one.sandbox.set_fault(BatchFault(seconds=3600, times=None))
    assert two.submit().count("submitted") == 8
    assert look(one) == look(two) == []
    one.sandbox.clear_faults()
    two.write(["new"], first=8)
    two.submit()
    assert [batch.status for batch in one.api.list_batches() if batch.status.startswith("cancel")] == []


@pytest.mark.parametrize("writes", range(1, 6))
def test_a_crash_in_one_of_them_adopts_only_its_own_batch(both: tuple[World, World], writes: int) -> None:
    one, two = both
    two.submit()
    whole = one.store
    one.store = FailingStore(whole, writes, after=False)
    with pytest.raises(PowerLost):
        one.submit()
    one.store = whole
    created = {b.id for b in one.api.list_batches()} - set(sent(two).values())
    one.submit()
    (batch_id,) = sent(one).values()
    assert batch_id not in sent(two).values()
    assert created <= {batch_id}
    for world in (one, two):
        world.settle()
        world.poll()
        assert world.balance().accepted == 8
    assert len(list(one.api.list_batches())) == 2


def test_a_batch_that_does_not_say_whose_it_is_is_adopted_and_never_cancelled(both: tuple[World, World]) -> None:
    """As versions before stores had an identity created them."""
    one, _ = both
    one.sandbox.set_fault(BatchFault(seconds=3600, times=None))
    one.submit()
    ((request_id, batch_id),) = sent(one).items()
    (batch,) = one.api.list_batches()
    unsaid = {key: value for key, value in batch.metadata.items() if key != STORE_KEY}
    twins = [one.api.create_batch(batch.input_file_id, unsaid) for _ in range(2)]
    assert look(one) == []
    key = f"{layout.requests(one.spec.name, DAY, request_id)}/{layout.BATCH}"
    one.store.delete([key, layout.asked_batch(one.spec.name, DAY, 1)])
    one.api.cancel(batch_id)
    (row,) = one.submit().rows  # as after a crash; its own batch was cancelled meanwhile
    assert row.action == "adopted"
    assert row.batch_id in {twin.id for twin in twins}
    assert row.cancelled == ()
    assert not any(one.api.retrieve(twin.id).status.startswith("cancel") for twin in twins)


def test_requests_of_before_identities_go_on(both: tuple[World, World]) -> None:
    one, _ = both
    one.submit()
    (asked,) = read_requests(one.store, one.spec.name, DAY)
    one.store.delete([layout.IDENTITY, layout.identity_copies(identity_of(one.store))])
    fresh = replace(one, store=open_store(one.store.url))
    assert known_identity(fresh.store) == ""
    fresh.settle()
    fresh.poll()
    assert fresh.balance().accepted == 8
    assert fresh.submit().rows == ()
    assert creator_of(next(iter(fresh.api.list_batches())), identity_of(fresh.store)) == "other"
    assert asked.batch is not None
    assert commit_batch(fresh.store, asked.request.folder, asked.batch) == asked.batch


def test_the_identity_that_is_there_first_counts(tmp_path: Path) -> None:
    handles = [open_store((tmp_path / "store").as_uri()) for _ in range(3)]
    assert known_identity(handles[0]) == ""
    assert len({identity_of(store) for store in handles}) == 1
    raw = json.loads(handles[0].get(layout.IDENTITY))
    assert raw["store_id"] == known_identity(handles[1])


def test_a_damaged_identity_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    store.put_new(layout.IDENTITY, b"{")
    with pytest.raises(CorruptedError, match="Restore it from a copy"):
        identity_of(store)


def gone(store: ObjectStore) -> None:
    store.delete([layout.IDENTITY])


def cut_off(store: ObjectStore) -> None:
    store.replace(layout.IDENTITY, store.get(layout.IDENTITY)[:-9])


def of_another_store(store: ObjectStore) -> None:
    raw = json.loads(store.get(layout.IDENTITY))
    store.replace(layout.IDENTITY, json.dumps({**raw, "store_id": "0" * 32}).encode())


@pytest.mark.parametrize("damage", [gone, cut_off, of_another_store])
def test_a_damaged_identity_is_put_right_from_its_copy_and_nothing_is_paid_twice(
    both: tuple[World, World], damage: Callable[[ObjectStore], None]
) -> None:
    one, two = both
    two.submit()
    one.submit()
    ((request_id, batch_id),) = sent(one).items()
    kept = known_identity(one.store)
    # As after a crash between the creation of the batch and its record: the list alone tells that there is one.
    one.store.delete([f"{layout.requests(one.spec.name, DAY, request_id)}/{layout.BATCH}"])
    damage(one.store)
    one = replace(one, store=open_store(one.store.url))
    assert identity_problem(one.store)
    assert look(one) == []
    assert known_identity(one.store) == kept
    one.submit()
    assert sent(one) == {request_id: batch_id}
    assert len(list(one.api.list_batches())) == 2
    assert not identity_problem(one.store)
    assert known_identity(open_store(one.store.url)) == kept


def test_a_store_of_before_copies_is_given_one(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    store_id = identity_of(store)
    store.delete([layout.identity_copies(store_id)])
    again = open_store(store.url)
    assert identity_of(again) == store_id
    assert again.exists(layout.identity_copies(store_id))


def test_of_several_copies_none_is_believed(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    identity_of(store)
    cut_off(store)
    store.put_new(layout.identity_copies("0" * 32), b"{}")
    with pytest.raises(CorruptedError, match="Restore it from a copy"):
        known_identity(open_store(store.url))


def test_books_of_both_are_balanced_when_both_were_polled(both: tuple[World, World]) -> None:
    one, two = both
    for world in (one, two):
        world.submit(batch_requests=3)
    one.settle()
    for world in (one, two):
        world.poll()
        books = balance(world.store, world.spec, DAY)
        assert (books.requested, books.accepted, books.pending) == (8, 8, 0)
