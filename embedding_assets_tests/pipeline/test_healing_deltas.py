"""A corrupted delta: from its discovery to the snapshot that holds every vector again, with a real service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedding_assets.catalog import Catalog
from embedding_assets.pipeline.cells import build_cell_deltas, land_cell, submit_cell
from embedding_assets.pipeline.healing import heal_cell
from embedding_assets.pipeline.pending import cells_to_run, compaction_due
from embedding_assets.sandbox.launch import Sandbox
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import list_deltas, load_deltas
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets_tests.batches.conftest import World, make_world, service
from embedding_assets_tests.vectorstore.worlds import file_of, flip

__all__ = ["make_world", "service"]
pytestmark = pytest.mark.service


@pytest.fixture
def world(service: Sandbox, make_world: Callable[..., World]) -> Iterator[World]:
    service.clear_faults()
    made = make_world(service)
    made.write()
    yield made
    service.clear_faults()


def run_cell(world: World, scratch: Path) -> dict[str, str]:
    """What a run of the cell does; batch -> state."""
    submit_cell(world.api, world.store, world.spec, world.day)
    world.settle()
    rows = land_cell(world.api, world.store, world.spec, world.day).batches
    build_cell_deltas(world.store, world.spec, world.day, run_id="test", scratch=scratch)
    return {row.batch_id: row.state for row in rows}


def bring_up(world: World, scratch: Path) -> Manifest:
    done = compact(world.store, world.spec, run_id="test", scratch=scratch)
    assert done is not None
    assert done.manifest is not None
    return done.manifest


def only_delta(world: World) -> Manifest:
    (delta,) = load_deltas(world.store, list_deltas(world.store, world.spec.name))
    return delta


def due(world: World) -> list[str]:
    cells, _ = cells_to_run(world.api, world.store, Catalog(collections={world.spec.name: world.spec}))
    return [cell.day for cell in cells]


def corrupt_and_heal(world: World, scratch: Path) -> Manifest:
    """Damage the only delta, have it found; the delta that was."""
    old = only_delta(world)
    flip(world.store, file_of(old, "chroma.sqlite3"))
    (damage,) = heal_cell(world.store, world.spec, world.day, run_id="test", scratch=scratch)
    assert (damage.name, damage.moved) == (old.id, True)
    assert heal_cell(world.store, world.spec, world.day, run_id="test", scratch=scratch) == []
    return old


@pytest.mark.parametrize("compacted", [False, True])
def test_its_batches_are_polled_afresh_and_built_again(world: World, tmp_path: Path, compacted: bool) -> None:
    run_cell(world, tmp_path)
    if compacted:
        bring_up(world, tmp_path)
    assert due(world) == []
    old = corrupt_and_heal(world, tmp_path)
    assert due(world) == [world.day]
    states = run_cell(world, tmp_path)
    assert set(states.values()) == {"unchanged"}
    new = only_delta(world)
    assert new.id != old.id
    assert {e.batch_id for e in new.batches} == {e.batch_id for e in old.batches}
    assert due(world) == []
    waiting = compaction_due(world.store, world.spec)
    assert waiting is not None
    assert waiting.due
    snapshot = bring_up(world, tmp_path)
    assert (snapshot.count, snapshot.deltas[-1]) == (old.count, new.id)
    assert compaction_due(world.store, world.spec) is None
    assert max(world.paid().values()) == 1


def forget(world: World) -> None:
    """The API no longer has any file of the collection's batches."""
    for batch in world.batches():
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id:
                world.api._client.files.delete(file_id)


def test_when_the_api_has_no_file_any_more_the_landed_result_takes_its_place(world: World, tmp_path: Path) -> None:
    run_cell(world, tmp_path)
    old = corrupt_and_heal(world, tmp_path)
    forget(world)
    assert set(run_cell(world, tmp_path).values()) == {"kept"}
    assert only_delta(world).count == old.count
    assert bring_up(world, tmp_path).count == old.count
    assert max(world.paid().values()) == 1


def damage_landings(world: World) -> None:
    for item in list(world.store.walk(f"{world.spec.name}/results")):
        if item.key.endswith("records.parquet"):
            flip(world.store, item.key)


def test_when_the_landed_result_is_gone_too_the_snapshot_takes_its_place(world: World, tmp_path: Path) -> None:
    run_cell(world, tmp_path)
    snapshot = bring_up(world, tmp_path)
    old = corrupt_and_heal(world, tmp_path)
    forget(world)
    damage_landings(world)
    assert set(run_cell(world, tmp_path).values()) == {"kept"}
    assert only_delta(world).count == old.count
    assert bring_up(world, tmp_path).count == snapshot.count
    assert due(world) == []
    assert max(world.paid().values()) == 1


def test_when_no_copy_is_left_it_is_asked_again(world: World, tmp_path: Path) -> None:
    run_cell(world, tmp_path)
    old = corrupt_and_heal(world, tmp_path)
    forget(world)
    damage_landings(world)
    assert "lost" not in run_cell(world, tmp_path).values()  # the API may have it again: it has two days
    with world.later(days=3):
        assert "lost" in run_cell(world, tmp_path).values()
        assert due(world) == [world.day]
        run_cell(world, tmp_path)
        assert bring_up(world, tmp_path).count == old.count
        assert due(world) == []
        world.balance()
    kinds = [entry.kind for entry in list_quarantine(world.store, world.spec.name)]
    assert sorted(kinds) == ["delta", "landing"]


def test_a_delta_whose_manifest_is_damaged_stops_nobody(world: World, tmp_path: Path) -> None:
    run_cell(world, tmp_path)
    old = only_delta(world)
    flip(world.store, old.key)
    run_cell(world, tmp_path)  # without anybody having looked at it
    done = compact(world.store, world.spec, run_id="test", scratch=tmp_path)
    assert done is not None
    assert done.manifest is not None
    assert [damage.name for damage in done.damages] == [old.id]
    assert done.manifest.count == old.count
    assert due(world) == []
