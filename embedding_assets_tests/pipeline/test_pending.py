"""When a collection is to be compacted: by count, by age, and never without need."""

from __future__ import annotations

from datetime import timedelta

import pytest

from embedding_assets.catalog import Compaction
from embedding_assets.pipeline.pending import compaction_due
from embedding_assets.store import layout
from embedding_assets_tests.cells import Cell, receipt_lines

pytestmark = pytest.mark.service


def with_rule(cell: Cell, after_deltas: int, after_minutes: float) -> Cell:
    rule = Compaction(after_deltas=after_deltas, after_minutes=after_minutes)
    spec = cell.spec.model_copy(update={"compaction": rule})
    return Cell(cell.sandbox, cell.api, cell.store, spec, cell.folder, cell.day)


def test_a_snapshot_that_lacks_nothing_is_never_due(delivered: Cell) -> None:
    assert compaction_due(delivered.store, delivered.spec, layout.now() + timedelta(days=400)) is None


def test_a_collection_without_deltas_is_never_due(cell: Cell) -> None:
    assert compaction_due(cell.store, cell.spec, layout.now() + timedelta(days=400)) is None


def test_compaction_is_due_by_count_and_by_age(delivered: Cell) -> None:
    patient = with_rule(delivered, after_deltas=2, after_minutes=30)
    patient.write(receipt_lines(22))
    patient.deliver()
    waiting = compaction_due(patient.store, patient.spec)
    assert waiting is not None
    assert (waiting.due, waiting.missing) == (False, 1)
    assert "due after 2 deltas or 30 minutes" in waiting.reason

    by_age = compaction_due(patient.store, patient.spec, layout.now() + timedelta(minutes=31))
    assert by_age is not None
    assert by_age.due
    assert by_age.state == waiting.state

    patient.write(receipt_lines(24))
    patient.deliver()
    by_count = compaction_due(patient.store, patient.spec)
    assert by_count is not None
    assert (by_count.due, by_count.missing) == (True, 2)
    assert by_count.state != waiting.state

    assert patient.compact().manifest.count == 24
    assert compaction_due(patient.store, patient.spec) is None
