"""A delta that is gone: no version leaves it out without a word, and it is made again of what there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.requests import read_requests
from embedding_assets.chroma.read import read_records
from embedding_assets.errors import CorruptedError
from embedding_assets.pipeline.compacting import compact_or_make_again, rebuild_snapshot
from embedding_assets.pipeline.findings import Findings, Row
from embedding_assets.pipeline.operations import delete_deltas, delete_snapshots, repair, rollback_snapshot
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.sandbox import Sandbox
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore import compact as compacting
from embedding_assets.vectorstore import gone
from embedding_assets.vectorstore.cache import fetch_current
from embedding_assets.vectorstore.commit import contents_of, head, history
from embedding_assets.vectorstore.delta import list_deltas, load_deltas
from embedding_assets.vectorstore.gone import RecordsWouldGoError
from embedding_assets.vectorstore.inventory import take_inventory
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets_tests.cells import Cell, flip, receipt_lines
from embedding_assets_tests.making import numbered
from embedding_assets_tests.moved_clock import later
from embedding_assets_tests.vectorstore.worlds import bring_up_to_date, deliver, heal, held

pytestmark = pytest.mark.service
TEXTS = receipt_lines(12)


@pytest.fixture(scope="module")
def whole(shared_service: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """Twelve records in three deltas of one batch each, and two versions; not to be changed."""
    shared_service.clear_faults()
    made = Cell.make(shared_service, tmp_path_factory.mktemp("whole"), batch_requests=4, delta_records=4)
    for some in (8, 12):
        made.write(receipt_lines(some))
        made.deliver()
        made.compact()
    assert len(deltas(made)) == 3
    return made


@pytest.fixture
def world(whole: Cell, tmp_path: Path) -> Cell:
    return whole.copy(tmp_path)


def deltas(cell: Cell) -> list[Manifest]:
    return load_deltas(cell.store, list_deltas(cell.store, cell.spec.name))


def delete(store: ObjectStore, folder: str) -> None:
    store.delete([item.key for item in store.walk(folder)])


def lose(cell: Cell, delta: Manifest, *, landing: bool) -> None:
    """Delete a delta, and with it the landings of its batches."""
    delete(cell.store, delta.folder)
    for entry in delta.batches if landing else ():
        delete(cell.store, layout.results(cell.spec.name, cell.day, entry.batch_id))


def damage_versions(cell: Cell, newest: int) -> None:
    """Turn over one bit of so many versions' databases."""
    versions = sorted(take_inventory(cell.store, cell.spec.name).snapshots, key=lambda one: one.name, reverse=True)
    for version in versions[:newest]:
        flip(cell.store, next(key for key in version.keys if key.endswith("chroma.sqlite3")))


def texts(cell: Cell) -> dict[str, str]:
    """What a reader gets."""
    fetched = fetch_current(cell.store, cell.spec.name, cell.folder / "cache")
    assert fetched is not None
    folders = [fetched.folder / part.shard for part in fetched.manifest.databases]
    every = [batch for folder in folders for batch in read_records(folder, cell.spec.name)]
    fetched.close()
    return {one: text for batch in every for one, text in zip(batch.ids, batch.documents, strict=True)}


def check(cell: Cell) -> list[Row]:
    """What `check` says of deltas that are gone."""
    found = check_collection(cell.store, cell.spec, "quick", cell.folder)
    return [row for row in found.rows if row["kind"] == "gone delta"]


def repaired(cell: Cell) -> Findings:
    return repair(cell.store, cell.spec, level="quick", run_id="test", scratch=cell.folder).execute()


def paid(cell: Cell) -> int:
    return len(read_requests(cell.store, cell.spec.name, cell.day))


@pytest.mark.parametrize("landing", [False, True], ids=["landing kept", "landing gone"])
def test_a_rebuild_makes_a_delta_that_is_gone_again_and_loses_nothing(world: Cell, landing: bool) -> None:
    lose(world, deltas(world)[0], landing=landing)
    planned = rebuild_snapshot(world.store, world.spec, run_id="test", scratch=world.folder)
    again, *_ = planned.rows
    assert again["action"] == "make again"
    assert ("4 records in the current snapshot" if landing else "the landing of its batch") in str(again["reason"])
    assert planned.warning == ""
    planned.execute()
    assert texts(world) == TEXTS
    assert len(deltas(world)) == 3
    assert check(world) == []
    proof = world.proof()
    assert (proof.problems, proof.lost) == ((), ())


@pytest.mark.parametrize("landing", [False, True], ids=["landing kept", "landing gone"])
def test_check_names_a_delta_that_is_gone_until_repair_has_made_it_again(world: Cell, landing: bool) -> None:
    lost = deltas(world)[1]
    lose(world, lost, landing=landing)
    (row,) = check(world)
    assert (row["name"], row["day"], row["records"], row["verdict"]) == (lost.id, world.day, 4, "unknown")
    repaired(world)
    assert (check(world), len(deltas(world))) == ([], 3)
    assert texts(world) == TEXTS
    # From now on the deltas alone are enough again.
    delete_snapshots(world.store, world.spec, timestamped=True, run_id="test", scratch=world.folder).execute()
    world.compact()
    assert texts(world) == TEXTS


def test_versions_that_are_all_damaged_are_made_again_of_what_has_landed(world: Cell) -> None:
    lose(world, deltas(world)[0], landing=False)
    damage_versions(world, 2)
    done = compact_or_make_again(world.store, world.spec, run_id="test", scratch=world.folder)
    assert done is not None
    assert texts(world) == TEXTS


@pytest.mark.parametrize("by", ["a run", "repair"])
def test_no_version_is_made_without_a_delta_that_is_left_nowhere_until_the_api_gave_it_again(
    world: Cell, by: str
) -> None:
    lost = deltas(world)[0]
    lose(world, lost, landing=True)
    damage_versions(world, 2)
    before = head(world.store, world.spec.name)
    with pytest.raises(RecordsWouldGoError, match=f"{lost.id} .* with 4 records of batch {lost.batches[0].batch_id}"):
        next_run(world, by_hand=by == "repair")
    assert head(world.store, world.spec.name) == before
    assert world.to_run() != []
    asked = paid(world)
    world.land()
    world.build()
    world.compact()
    assert texts(world) == TEXTS
    assert paid(world) == asked


def test_force_goes_on_without_it_and_names_it_before(world: Cell) -> None:
    lost = deltas(world)[0]
    lose(world, lost, landing=True)
    damage_versions(world, 2)
    planned = rebuild_snapshot(world.store, world.spec, run_id="test", scratch=world.folder)
    assert lost.id in planned.warning
    assert lost.batches[0].batch_id in planned.warning
    with pytest.raises(RecordsWouldGoError):
        planned.execute()
    rebuild_snapshot(world.store, world.spec, run_id="test", scratch=world.folder, force=True).execute()
    assert len(texts(world)) == 8


def test_a_version_of_the_same_deltas_with_fewer_records_is_made_by_force_alone(
    world: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len(texts(world))
    claimed = gone.claimed

    def more(*args: Any) -> gone.Claims:
        claims: gone.Claims = claimed(*args)
        return replace(claims, count=count + 1)

    monkeypatch.setattr(gone, "claimed", more)
    with pytest.raises(RecordsWouldGoError, match=f"it would hold {count} records"):
        rebuild_snapshot(world.store, world.spec, run_id="test", scratch=world.folder).execute()
    rebuild_snapshot(world.store, world.spec, run_id="test", scratch=world.folder, force=True).execute()
    assert len(texts(world)) == count


def test_the_log_says_what_was_in_each_delta(world: Cell) -> None:
    every = deltas(world)
    found = contents_of(world.store, world.spec.name, [one.id for one in every])
    assert {name: (one.day, one.records, one.batches) for name, one in found.items()} == {
        one.id: (world.day, one.count, tuple((entry.batch_id, entry.landing_id) for entry in one.batches))
        for one in every
    }


def test_a_log_of_an_earlier_version_is_enough_where_the_snapshot_is_whole(
    world: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(world, deltas(world)[0], landing=True)
    monkeypatch.setattr("embedding_assets.vectorstore.gone.contents_of", lambda *_: {})
    (row,) = check(world)
    assert row["records"] == 4
    rebuild_snapshot(world.store, world.spec, run_id="test", scratch=world.folder).execute()
    assert texts(world) == TEXTS


def test_deleting_by_hand_says_what_is_left(world: Cell) -> None:
    first, second, _ = deltas(world)
    delete(world.store, layout.results(world.spec.name, world.day, first.batches[0].batch_id))
    planned = delete_deltas(world.store, world.spec, [first.id, second.id], scratch=world.folder)
    said = {str(row["name"]): str(row["left"]) for row in planned.rows}
    assert said == {
        first.id: "4 records in the current snapshot alone",
        second.id: "the landing of its batch, 4 records in the current snapshot",
    }
    lose(world, first, landing=True)
    planned = delete_snapshots(world.store, world.spec, timestamped=True, run_id="test", scratch=world.folder)
    assert first.id in planned.warning


def test_rolling_back_names_what_is_gone_and_in_no_older_version(world: Cell) -> None:
    newest = deltas(world)[-1]
    older = str(list(history(world.store, world.spec.name))[-1].version)
    lose(world, newest, landing=True)
    planned = rollback_snapshot(world.store, world.spec, older, run_id="test")
    assert f"{newest.id} of {world.day} with 4 records" in planned.warning


@contextmanager
def forgotten(cell: Cell, empty: Sandbox) -> Iterator[Cell]:
    """The same months later, where the API knows none of its batches."""
    with later(40 * 24):
        yield replace(cell, api=EmbeddingApi(ApiSettings(empty.api_key, empty.base_url), retries=0), sandbox=empty)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox.start(tmp_path_factory.mktemp("empty"), api_key="sk-sandbox-0123456789") as sandbox:
        yield sandbox


SUBSETS = st.sets(st.integers(0, 2))


# The API has forgotten the batch: its records are asked again, in another one.
@example(gone={0}, landings={0}, damaged=2, known=False, by_hand=False)
@given(gone=SUBSETS, landings=SUBSETS, damaged=st.integers(0, 2), known=st.booleans(), by_hand=st.booleans())
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_gone_every_record_is_in_the_end_in_the_snapshot_and_none_left_before_it_was_named(
    whole: Cell,
    empty: Sandbox,
    tmp_path_factory: pytest.TempPathFactory,
    gone: set[int],
    landings: set[int],
    damaged: int,
    known: bool,
    by_hand: bool,
) -> None:
    world = whole.copy(tmp_path_factory.mktemp("example"))
    every = deltas(world)
    for number in gone:
        delete(world.store, every[number].folder)
    for number in landings:
        delete(world.store, layout.results(world.spec.name, world.day, every[number].batches[0].batch_id))
    damage_versions(world, damaged)
    asked = paid(world)
    if known:
        run_until_whole(world, by_hand)
        assert paid(world) == asked
    else:
        with forgotten(world, empty) as cell:
            run_until_whole(cell, by_hand)
    assert texts(world) == TEXTS


def next_run(cell: Cell, by_hand: bool) -> None:
    if by_hand:
        repaired(cell)
    else:
        compact_or_make_again(cell.store, cell.spec, run_id="test", scratch=cell.folder)


def run_until_whole(cell: Cell, by_hand: bool) -> None:
    """What the next runs do; no version lacks anything before a refusal has named it."""
    for _ in range(3):
        named: tuple[str, ...] = ()
        try:
            next_run(cell, by_hand)
        except RecordsWouldGoError as error:
            named = error.deltas
        if not named and texts(cell) == TEXTS:
            return
        if not named:  # a version without them was made only after the books said that they are asked again
            assert cell.books().pending == len(TEXTS) - len(texts(cell))
        cell.submit()
        cell.wait()
        cell.land()
        cell.submit()
        cell.wait()
        cell.land()
        cell.build()
    raise AssertionError("it does not come to an end")


def test_a_version_whose_files_are_pruned_before_its_commit_is_not_committed(
    folder_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 5))
    commit = compacting.commit_version

    def pruned_meanwhile(store: ObjectStore, draft: compacting.Draft, done: Sequence[compacting.ShardDone]) -> object:
        for one in done:
            assert one.manifest is not None
            folder_store.delete([f"{one.manifest.folder}/{one.manifest.files[0].path}"])
        return commit(store, draft, done)

    with monkeypatch.context() as patch:
        patch.setattr(compacting, "commit_version", pruned_meanwhile)
        with pytest.raises(CorruptedError, match="was not committed"):
            heal(folder_store, tmp_path)
    assert head(folder_store, "lines") is None
    bring_up_to_date(folder_store, tmp_path)
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 5))
