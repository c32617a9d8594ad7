"""Stores that earlier versions wrote are read, checked, and carried on.

`old_stores/2026-11-25.tar.gz`: a folder store of that day (commit 14574d9): one collection, 24 documents asked in
six batches, two deltas in two snapshots, four records landed and in no delta, one rejected vector asked again, two
records in a batch that never came back. Its service is gone.
"""

from __future__ import annotations

import dataclasses
import tarfile
from pathlib import Path

import pytest

from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.reading import Collection
from embedding_assets.sandbox import Sandbox
from embedding_assets.store.objects import open_store
from embedding_assets_tests.cells import Cell, receipt_lines

OLD_STORES = sorted((Path(__file__).parent / "old_stores").glob("*.tar.gz"))


@pytest.fixture(params=OLD_STORES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def old(request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path) -> Cell:
    """The collection of an old store, with a service that knows nothing of it."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    cell = Cell.make(sandbox, tmp_path, name="lines", batch_requests=6)
    return dataclasses.replace(cell, store=open_store(f"file://{tmp_path}/store"), day="2026-11-26")


def ids_of(lines: Collection) -> list[str]:
    return sorted(record.id for record in lines.get())


def test_what_an_old_store_holds_is_read_and_found_whole(old: Cell, tmp_path: Path) -> None:
    with old.read() as lines:
        assert ids_of(lines) == sorted(receipt_lines(18))
    found = check_collection(old.store, old.spec, "full", tmp_path)
    assert (found.count("corrupted"), found.count("unknown")) == (0, 0), found.rows
    books = old.books()
    assert (books.requested, books.accepted, books.rejected, books.pending) == (24, 22, 0, 2)


def test_an_old_store_is_carried_on(old: Cell, tmp_path: Path) -> None:
    old.land()
    old.build()
    assert old.compact().manifest is not None
    with old.read() as lines:
        assert ids_of(lines) == sorted(receipt_lines(22))
    old.write(receipt_lines(30))
    old.deliver()
    old.compact()
    with old.read() as lines:
        assert {*receipt_lines(22), *list(receipt_lines(30))[24:]} <= set(ids_of(lines))
    assert old.books().balanced
    assert old.proof().problems == ()
    found = check_collection(old.store, old.spec, "full", tmp_path)
    assert found.count("corrupted") == 0, found.rows
