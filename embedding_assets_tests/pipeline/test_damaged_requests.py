"""Damage to the records of what was asked: found, named, healed by the next runs; nobody else is stopped by it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from embedding_assets.batches.requests import Asked, read_requests
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.status import collection_status
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.sandbox import Sandbox
from embedding_assets.store import layout
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets_tests.cells import Cell, flip, receipt_lines

RECORDS, EACH = 30, 10


def _emptied(cell: Cell, key: str, other: str) -> None:
    cell.store.replace(key, b"")


def _cut(cell: Cell, key: str, other: str) -> None:
    data = cell.store.get(key)
    cell.store.replace(key, data[: len(data) // 2])


def _garbage(cell: Cell, key: str, other: str) -> None:
    cell.store.replace(key, b"\x00garbage\xff" * 9)


def _flipped(cell: Cell, key: str, other: str) -> None:
    flip(cell.store, key)


def _swapped(cell: Cell, key: str, other: str) -> None:
    here, there = cell.store.get(key), cell.store.get(other)
    cell.store.replace(key, there)
    cell.store.replace(other, here)


def _missing(cell: Cell, key: str, other: str) -> None:
    cell.store.delete([key])


DAMAGES = {one.__name__[1:]: one for one in (_emptied, _cut, _garbage, _flipped, _swapped, _missing)}
KINDS: dict[str, Callable[[Asked], str]] = {
    "request": lambda one: layout.REQUEST,
    "batch": lambda one: layout.BATCH,
    "ids": lambda one: one.request.ids.name,
    "documents": lambda one: one.request.documents.name,
}
STAGES = ("sent", "landed")


@pytest.fixture(scope="module", params=STAGES)
def stage(request: pytest.FixtureRequest, shared_service: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """Three requests of ten records, sent and finished, or landed too; and another collection in the same store."""
    cell = Cell.make(shared_service, tmp_path_factory.mktemp("whole"), batch_requests=EACH, delta_records=EACH)
    cell.write(receipt_lines(RECORDS))
    cell.submit()
    cell.wait()
    if request.param == "landed":
        cell.land()
    return cell


def _pass(cell: Cell) -> None:
    """What the runs of a cell and a compaction do, and whoever looks."""
    cell.submit()
    cell.wait()
    cell.land()
    cell.build()
    cell.compact()


@pytest.mark.parametrize("damage", [*DAMAGES, "moved"])
@pytest.mark.parametrize("kind", KINDS)
def test_damage_to_what_was_asked_stops_nobody_else(stage: Cell, kind: str, damage: str, tmp_path: Path) -> None:
    if damage == "moved" and kind != "request":
        pytest.skip("a folder is moved whole")
    landed = bool(stage.store.folders(layout.results(stage.spec.name)))
    if landed and damage not in ("emptied", "missing"):
        pytest.skip("the landing says the same, whatever the damage is")
    cell = stage.copy(tmp_path)
    first, second, _third = read_requests(cell.store, cell.spec.name, cell.day)
    key, other = (f"{one.request.folder}/{KINDS[kind](one)}" for one in (first, second))
    if damage == "moved":
        folder = tmp_path / "store" / first.request.folder
        (away := folder.parents[1] / "2026-01-02").mkdir()
        shutil.move(folder, away / folder.name)
    else:
        DAMAGES[damage](cell, key, other)
    hurt = 2 if damage == "swapped" else 1
    sent = _created(cell)

    # Only whoever reads the documents sees that they are not what they were, where their size is.
    unread = kind == "documents" and damage in ("flipped", "swapped")
    found = check_collection(cell.store, cell.spec, "full" if unread else "quick", tmp_path)
    named = [row for row in found.rows if row["kind"] == "request" and row["verdict"] == "corrupted"]
    # A request that nothing says was sent is as one whose sender died: its batch is found by the API's list.
    silent = (kind, damage) == ("batch", "missing") and not landed
    assert silent or {row["name"] for row in named} >= {first.request.request_id}
    assert silent or unread or len(collection_status(cell.store, cell.spec).damaged_requests) >= hurt
    repair(cell.store, cell.spec, level="quick", run_id="test", scratch=tmp_path).execute()
    cell.to_run()

    _pass(cell)

    ids = {record.id for record in cell.read().get(limit=RECORDS)}
    asked_by_others = {f"line-{n:05d}" for n in range(hurt * EACH, RECORDS)}
    assert ids >= asked_by_others
    assert _created(cell) == sent, "something was paid twice"

    if damage == "moved":
        return
    # The next runs heal it from what else says the same.
    assert ids == set(receipt_lines(RECORDS))
    assert cell.books().accepted == RECORDS
    after = check_collection(cell.store, cell.spec, "full" if unread else "quick", tmp_path)
    assert not [row for row in after.rows if row.get("verdict") == "corrupted"]
    if damage != "missing":
        assert [entry for entry in list_quarantine(cell.store, cell.spec.name) if entry.kind == "request"]


@pytest.mark.parametrize("deleted", [1, 3])
def test_deleted_requests_are_neither_asked_nor_paid_again(stage: Cell, deleted: int, tmp_path: Path) -> None:
    cell = stage.copy(tmp_path)
    sent = _created(cell)
    for one in read_requests(cell.store, cell.spec.name, cell.day)[:deleted]:
        cell.store.delete([item.key for item in cell.store.walk(one.request.folder)])
    _pass(cell)
    assert cell.books().accepted == cell.books().requested == RECORDS
    assert {record.id for record in cell.read().get()} == set(receipt_lines(RECORDS))
    assert _created(cell) == sent


def _created(cell: Cell) -> int:
    return sum(batch.metadata.get("collection") == cell.spec.name for batch in cell.api.list_batches(0))
