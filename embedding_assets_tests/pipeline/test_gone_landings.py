"""A landing that is gone after its records were compacted: they are told from the databases, and never paid again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.status import collection_status
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.sandbox import Sandbox
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets.vectorstore.delta import list_deltas
from embedding_assets_tests.cells import Cell, paid, receipt_lines

RECORDS, EACH = 12, 6


@pytest.fixture(scope="module")
def compacted(shared_service: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """Two batches in a delta and a snapshot; not to be changed."""
    cell = Cell.make(shared_service, tmp_path_factory.mktemp("compacted"), batch_requests=EACH)
    cell.write(receipt_lines(RECORDS))
    cell.deliver()
    cell.compact()
    return cell


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Another server behind the URL: it knows none of the batches."""
    with Sandbox.start(tmp_path_factory.mktemp("empty"), api_key="sk-sandbox-0123456789") as sandbox:
        yield sandbox


@pytest.fixture
def cell(compacted: Cell, tmp_path: Path) -> Cell:
    return compacted.copy(tmp_path)


def _lose_landings(cell: Cell, damage: str, count: int = 1) -> None:
    for batch_id in cell.batch_ids()[:count]:
        keys = [item.key for item in cell.store.walk(layout.results(cell.spec.name, cell.day, batch_id))]
        if damage == "deleted":
            cell.store.delete(keys)
        else:
            (manifest,) = (key for key in keys if key.endswith(layout.MANIFEST))
            cell.store.replace(manifest, b"" if damage == "emptied" else b"\x00garbage")


def _lose_deltas(cell: Cell) -> None:
    for ref in list_deltas(cell.store, cell.spec.name, cell.day):
        folder = layout.deltas(cell.spec.name, cell.day, ref.id)
        cell.store.delete([item.key for item in cell.store.walk(folder)])


def _runs(cell: Cell, service: Cell) -> None:
    """The runs of a cell, and what the service was asked for meanwhile."""
    before = paid(service)
    for _ in range(2):
        cell.land()
        assert cell.submit().rows == ()
        cell.build()
        cell.compact()
    assert paid(service) == before
    books = cell.books()
    assert (books.requested, books.accepted, books.pending) == (RECORDS, RECORDS, 0)
    assert {record.id for record in cell.read().get()} == set(receipt_lines(RECORDS))
    assert cell.proof().lost == ()


@pytest.mark.parametrize("damage", ["deleted", "emptied", "garbage"])
def test_a_landing_that_is_gone_is_named_and_landed_again(cell: Cell, damage: str, tmp_path: Path) -> None:
    first, second = cell.books().batches
    _lose_landings(cell, damage)
    assert cell.books().in_flight == EACH
    (row,) = [
        row for row in check_collection(cell.store, cell.spec, "quick", tmp_path).rows if row["kind"] == "landing"
    ]
    assert (row["name"], row["verdict"]) == (first.request_id, "corrupted")
    (told,) = collection_status(cell.store, cell.spec).damaged_requests
    assert first.request_id in told
    assert second.request_id not in told
    if damage == "deleted":  # a look at names alone does not see what an object says
        (run,) = cell.to_run()
        assert any("is gone" in reason or "finished" in reason for reason in run.reasons)
    repair(cell.store, cell.spec, level="quick", run_id="test", scratch=tmp_path).execute()
    _runs(cell, cell)
    assert not collection_status(cell.store, cell.spec).damaged_requests
    assert cell.to_run() == []


@pytest.mark.parametrize("held_by", ["delta", "snapshot"])
def test_what_a_database_holds_is_never_asked_for_again(
    cell: Cell, empty: Sandbox, held_by: str, tmp_path: Path
) -> None:
    api = EmbeddingApi(ApiSettings(empty.api_key, empty.base_url), retries=0)
    alone = dataclasses.replace(cell, api=api)
    _lose_landings(cell, "deleted", count=2)
    if held_by == "snapshot":
        _lose_deltas(cell)
    _runs(alone, cell)
    assert paid(alone) == 0
    assert {row.status for row in cell.books().batches} == {"recovered"}
    found = check_collection(cell.store, cell.spec, "full", tmp_path)
    assert not [row for row in found.rows if row["kind"] in ("landing", "request", "books")]


def test_an_output_that_the_api_no_longer_has_is_read_from_the_delta(sandbox: Sandbox, tmp_path: Path) -> None:
    cell = Cell.make(sandbox, tmp_path, batch_requests=EACH)
    cell.write(receipt_lines(RECORDS))
    cell.deliver()
    cell.compact()
    _lose_landings(cell, "deleted")
    output = cell.api.retrieve(cell.batch_ids()[0]).output_file_id
    key = {"Authorization": f"Bearer {sandbox.api_key}"}
    httpx.delete(f"{sandbox.base_url}/files/{output}", headers=key).raise_for_status()
    _runs(cell, cell)
    assert sorted(row.status for row in cell.books().batches) == ["completed", "recovered"]
