"""What was asked is known by key: neither a listing that lags nor a deleted folder makes anybody pay again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from embedding_assets.batches.requests import read_requests
from embedding_assets.sandbox import Sandbox
from embedding_assets.sandbox.faults import BatchFault
from embedding_assets.store import layout
from embedding_assets_tests.cells import Cell, receipt_lines
from embedding_assets_tests.lagging_store import LaggingStore
from embedding_assets_tests.moved_clock import later

pytestmark = pytest.mark.service
RECORDS = 20


def paid(cell: Cell) -> int:
    """Vectors that the service made for the collection."""
    mine = [b for b in cell.api.list_batches(0) if b.metadata.get("collection") == cell.spec.name]
    return sum(batch.requests[1] for batch in mine)


def cut(cell: Cell, records: int) -> Cell:
    """The same, whose documents are cut into other requests."""
    return replace(cell, spec=cell.spec.model_copy(update={"batch_requests": records}))


def lagging(cell: Cell) -> Cell:
    return replace(cell, store=LaggingStore(cell.store))


def other_process(cell: Cell) -> Cell:
    assert isinstance(cell.store, LaggingStore)
    return replace(cell, store=LaggingStore(cell.store, cell.store))


def finish(cell: Cell) -> None:
    """What the next runs do."""
    for _ in range(2):
        cell.submit()
        cell.wait()
        cell.land()
        cell.build()
    cell.compact()


@pytest.mark.parametrize("records", [10, 7])
@pytest.mark.parametrize("process", ["the same", "another"])
def test_what_no_listing_shows_yet_is_not_asked_again(cell: Cell, process: str, records: int) -> None:
    first = lagging(cell)
    first.submit()
    second = cut(first if process == "the same" else other_process(first), records)
    assert second.submit().count("submitted") == 0
    second.write(receipt_lines(RECORDS + 5))
    assert second.submit().count("submitted") == 5
    assert first.submit().count("submitted") == 0
    first.wait()
    assert paid(cell) == RECORDS + 5
    for hours in (2, 4):
        with later(hours):
            second.deliver()
    with later(hours=6):
        finish(second)
        assert second.books().accepted == RECORDS + 5
    assert paid(cell) == RECORDS + 5


def test_what_another_cell_asked_just_now_is_not_asked_again(cell: Cell) -> None:
    cell = replace(lagging(cell), day=layout.day_of(layout.now().timestamp()))
    yesterday = replace(cell, day=layout.day_of(layout.now().timestamp() - 86_400))
    yesterday.submit()
    cell.write(receipt_lines(RECORDS + 5))
    assert cell.submit().count("submitted") == 5


def test_runs_at_once_that_cut_the_documents_otherwise_pay_once(cell: Cell) -> None:
    cell.sandbox.set_fault(BatchFault(seconds=1, times=None, metadata={"collection": cell.spec.name}))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda records: cut(cell, records).submit(), [10, 7, 5, 3]))
    cell.wait()
    assert paid(cell) == RECORDS
    finish(cell)
    assert cell.books().accepted == cell.books().requested == RECORDS


def _no_landing(cell: Cell) -> None:
    cell.wait()


def _partial_landing(cell: Cell) -> None:
    cell.wait()
    cell.land()


def _whole_landing(cell: Cell) -> None:
    cell.wait()
    cell.land()


def _delivered(cell: Cell) -> None:
    cell.wait()
    cell.land()
    cell.build()


def _in_flight(cell: Cell) -> None:
    pass


STAGES = {one.__name__[1:]: one for one in (_no_landing, _partial_landing, _whole_landing, _delivered, _in_flight)}


@pytest.mark.parametrize("records", [10, 7])
@pytest.mark.parametrize("deleted", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_a_deleted_request_is_not_paid_again(
    sandbox: Sandbox, cell: Cell, stage: str, deleted: int, records: int
) -> None:
    mine = {"collection": cell.spec.name}
    if stage == "partial_landing":
        sandbox.set_fault(BatchFault(finished=6, outcome="expired", times=2, metadata=mine))
    if stage == "in_flight":
        sandbox.set_fault(BatchFault(seconds=1, times=None, metadata=mine))
    cell.submit()
    STAGES[stage](cell)
    for one in read_requests(cell.store, cell.spec.name, cell.day)[:deleted]:
        cell.store.delete([item.key for item in cell.store.walk(one.request.folder)])
    cell = cut(cell, records)

    finish(cell)

    assert paid(cell) == RECORDS
    assert cell.books().accepted == cell.books().requested == RECORDS
    assert {record.id for record in cell.read().get()} == set(receipt_lines(RECORDS))
    assert not cell.books().damaged
