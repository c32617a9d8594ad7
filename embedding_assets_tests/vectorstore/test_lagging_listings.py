"""Listings that lag: what was committed, moved or uploaded a moment ago is known by its key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from embedding_assets.store import layout
from embedding_assets.vectorstore.commit import log_end
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import list_deltas
from embedding_assets.vectorstore.inventory import take_inventory
from embedding_assets.vectorstore.manifest import load_manifest
from embedding_assets.vectorstore.quarantine import execute_quarantine, list_quarantine, plan_quarantine
from embedding_assets.vectorstore.verification import Verdict
from embedding_assets_tests.cells import Cell, receipt_lines
from embedding_assets_tests.lagging_store import LaggingStore
from embedding_assets_tests.moved_clock import later

pytestmark = pytest.mark.service


def test_a_version_is_committed_and_read_before_any_listing_shows_it(delivered: Cell) -> None:
    cell = delivered
    cell.write(receipt_lines(30))
    cell.deliver()
    cell = replace(cell, store=LaggingStore(cell.store))
    done = cell.compact()
    assert done.manifest is not None
    end = log_end(cell.store, cell.spec.name)
    assert (end.generation, end.lost) == (2, False)
    with cell.read() as lines:
        assert {record.id for record in lines.get()} == set(receipt_lines(30))
    again = compact(cell.store, cell.spec, run_id="test", scratch=cell.folder)
    assert again is not None
    assert again.manifest == done.manifest
    assert again.merged is None
    cell.store.put_new(layout.commit_log(cell.spec.name, 4), b"{stranger")
    assert log_end(cell.store, cell.spec.name).generation == 2


def test_what_was_moved_to_the_quarantine_has_arrived_before_any_listing_shows_it(delivered: Cell) -> None:
    cell = replace(delivered, store=LaggingStore(delivered.store))
    delta = load_manifest(cell.store, list_deltas(cell.store, cell.spec.name)[0].key)
    verdict = Verdict("corrupted", "for the test")
    plan = plan_quarantine(cell.store, cell.spec.name, "delta", delta.id, delta.folder, verdict, "test")
    assert execute_quarantine(cell.store, plan) is not None
    assert take_inventory(cell.store, cell.spec.name).deltas == ()
    with later(hours=2):
        (entry,) = list_quarantine(cell.store, cell.spec.name)
    assert entry.name == delta.id


def test_a_second_delta_of_a_landing_that_no_listing_shows_doubles_nothing(landed: Cell, tmp_path: Path) -> None:
    cell = replace(landed, store=LaggingStore(landed.store))
    cell.build()
    cell.land()
    cell.build()
    for hours in (2, 4):
        with later(hours):
            cell.land()
            cell.build()
    with later(6):
        cell.compact()
        assert cell.proof().problems == ()
        with cell.read() as lines:
            assert sorted(record.id for record in lines.get()) == sorted(receipt_lines(20))
        assert cell.books().accepted == 20
