"""What was asked is known by key: neither a listing that lags nor a deleted folder makes anybody pay again."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from embedding_assets.batches.client import ApiMissingError, BatchPage, EmbeddingApi
from embedding_assets.batches.discover import discover
from embedding_assets.batches.requests import read_requests
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.sandbox import Sandbox
from embedding_assets.sandbox.faults import BatchFault
from embedding_assets.settings import ApiSettings
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


class UnlistedApi(EmbeddingApi):
    """The real service, whose list is empty."""

    def page(self, after: str | None = None) -> BatchPage:
        return BatchPage((), False)


def unlisted(cell: Cell) -> Cell:
    return replace(cell, api=UnlistedApi(ApiSettings(cell.sandbox.api_key, cell.sandbox.base_url), retries=0))


def lagging(cell: Cell) -> Cell:
    return replace(cell, store=LaggingStore(cell.store))


def other_process(cell: Cell) -> Cell:
    assert isinstance(cell.store, LaggingStore)
    return replace(cell, store=LaggingStore(cell.store, cell.store))


def finish(cell: Cell) -> None:
    """What the next runs do."""
    cell.submit()
    cell.wait()
    cell.land()
    cell.submit()
    cell.wait()
    cell.land()


@pytest.mark.parametrize(("process", "records"), [("the same", 10), ("another", 7)])
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
    with later(hours=2):
        finish(second)
    with later(hours=4):
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


def test_what_a_newer_landing_brings_that_no_listing_shows_yet_is_not_asked_again(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell.submit()
    cell.wait()
    with monkeypatch.context() as gone, later(hours=72):

        def missing(file_id: str, take: object) -> None:
            raise ApiMissingError("file", "is not there", "Wait.")

        gone.setattr(cell.api, "read", missing)
        assert cell.land().count("lost") == 2
    cell = lagging(cell)
    with later(hours=73):
        assert cell.land(*cell.batch_ids()).count("landed") == 2
        assert cell.submit().rows == ()
    with later(hours=75):
        assert cell.submit().rows == ()
        assert cell.books().accepted == paid(cell) == RECORDS


def test_a_batch_of_a_request_that_no_listing_shows_yet_is_not_called_a_strangers(cell: Cell) -> None:
    cell = lagging(cell)
    cell.submit()
    assert discover(cell.api, cell.store, cell.catalog).unclaimed == ()


def _deleted(cell: Cell, folder: str) -> None:
    cell.store.delete([item.key for item in cell.store.walk(folder)])


def test_a_cell_without_any_of_its_requests_is_checked_and_healed_and_its_documents_are_not_asked_elsewhere(
    landed: Cell, tmp_path: Path
) -> None:
    cell, before = landed, paid(landed)
    _deleted(cell, layout.requests(cell.spec.name))
    found = check_collection(cell.store, cell.spec, "quick", tmp_path)
    assert [row["day"] for row in found.rows if row["kind"] == "request"]
    assert cell.books().accepted == RECORDS
    today = replace(cell, day=layout.day_of(layout.now().timestamp()))
    today.write(receipt_lines(RECORDS))
    assert today.submit().count("submitted") == 0
    repair(cell.store, cell.spec, level="quick", run_id="test", scratch=tmp_path).execute()
    finish(cell)
    assert cell.books().accepted == cell.books().requested == RECORDS
    assert not cell.books().damaged
    assert paid(cell) == before


def _without_log(cell: Cell) -> None:
    """As a version wrote it that kept no log."""
    _deleted(cell, layout.asked(cell.spec.name))
    for one in read_requests(cell.store, cell.spec.name, cell.day):
        key = f"{one.request.folder}/{layout.REQUEST}"
        earlier = {k: v for k, v in asdict(one.request).items() if k != "number"}
        cell.store.replace(key, json.dumps({**earlier, "format": 1}).encode())


def test_requests_of_a_version_without_the_log_are_entered_when_their_cell_is_submitted_again(cell: Cell) -> None:
    cell.submit()
    cell.wait()
    _without_log(cell)
    assert cell.books().in_flight == RECORDS
    assert cell.submit().rows == ()
    entries = [item.key.rsplit("/", 1)[1] for item in cell.store.walk(layout.asked(cell.spec.name, cell.day))]
    assert entries == ["000001-batch.json", "000001.json", "000002-batch.json", "000002.json"]
    _deleted(cell, layout.requests(cell.spec.name))
    cell = cut(cell, 7)
    finish(cell)
    assert cell.books().accepted == cell.books().requested == paid(cell) == RECORDS


def _folder_at(cell: Cell, key: str) -> None:
    cell.store.delete([key])
    cell.store.put_new(f"{key}/x", b"x")


@pytest.mark.parametrize("damage", ["emptied", "folder"])
def test_a_damaged_copy_of_a_batchs_record_is_found_and_written_again(
    landed: Cell, damage: str, tmp_path: Path
) -> None:
    key = layout.asked_batch(landed.spec.name, landed.day, 1)
    whole = landed.store.get(key)
    if damage == "folder":
        _folder_at(landed, key)
    else:
        landed.store.replace(key, b"")
    found = check_collection(landed.store, landed.spec, "quick", tmp_path)
    assert [row["reason"][: len(key)] for row in found.rows if row["verdict"] == "corrupted"] == [key]
    landed.land()
    assert landed.store.get(key) == whole


@pytest.mark.parametrize("damage", ["garbage", "deleted", "swapped", "folder"])
def test_a_damaged_entry_of_the_log_is_found_and_written_again(landed: Cell, damage: str, tmp_path: Path) -> None:
    cell, before = landed, paid(landed)
    first, second = (layout.asked(cell.spec.name, cell.day, number) for number in (1, 2))
    whole = cell.store.get(first)
    if damage == "deleted":
        cell.store.delete([first])
    elif damage == "folder":
        _folder_at(cell, first)
    else:
        cell.store.replace(first, b"{garbage" if damage == "garbage" else cell.store.get(second))
    found = check_collection(cell.store, cell.spec, "quick", tmp_path)
    assert [row["reason"][: len(first)] for row in found.rows if row["verdict"] == "corrupted"] == [first]
    finish(cell)
    assert cell.store.get(first) == whole
    assert check_collection(cell.store, cell.spec, "quick", tmp_path).count("corrupted") == 0
    assert cell.books().accepted == cell.books().requested == RECORDS
    assert paid(cell) == before


def test_a_folder_in_the_place_of_the_next_entry_of_the_log_does_not_stop_what_is_asked(cell: Cell) -> None:
    finish(cell)
    key = layout.asked(cell.spec.name, cell.day, 3)
    cell.store.put_new(f"{key}/x", b"x")
    cell.write(receipt_lines(RECORDS + 5))
    assert cell.submit().count("submitted") == 5
    finish(cell)
    assert cell.books().accepted == cell.books().requested == paid(cell) == RECORDS + 5


def test_what_the_log_hides_behind_a_damaged_or_deleted_entry_is_asked_only_once(landed: Cell) -> None:
    cell, before = landed, paid(landed)
    _deleted(cell, layout.requests(cell.spec.name))
    cell.store.delete([layout.asked(cell.spec.name, cell.day, 1)])
    cell = cut(cell, 7)
    finish(cell)
    # The first ten are known by nothing but their landing, which says what was asked as it is whole.
    assert paid(cell) == before
    assert cell.books().accepted == cell.books().requested == RECORDS


@pytest.mark.parametrize("written", ["now", "without the log"])
def test_many_entries_cost_one_request_to_the_store(cell: Cell, written: str) -> None:
    cell = cut(cell, 1)
    cell.submit()
    if written == "without the log":
        _without_log(cell)
        cell.submit()
    gets: list[str] = []

    class Counting(LaggingStore):
        def get(self, key: str) -> bytes:
            gets.append(key)
            return super().get(key)

    replace(cell, store=Counting(cell.store)).books()
    assert [key for key in gets if "/asked/" in key] == [layout.asked(cell.spec.name, cell.day, RECORDS + 1)]


@pytest.mark.parametrize("deleted", ["folders", "records of batches"])
def test_a_batch_that_no_list_of_the_api_shows_is_known_by_the_log(cell: Cell, deleted: str) -> None:
    cell.submit()
    cell.wait()
    cell = cut(cell, 7)
    for one in read_requests(cell.store, cell.spec.name, cell.day):
        if deleted == "folders":
            _deleted(cell, one.request.folder)
        else:
            cell.store.delete([f"{one.request.folder}/{layout.BATCH}"])
    finish(unlisted(cell))
    assert cell.books().accepted == cell.books().requested == paid(cell) == RECORDS
    assert not cell.books().damaged


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


@pytest.mark.parametrize(("deleted", "records"), [(1, 7), (2, 10), (2, 7)])
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
    assert not cell.books().damaged
    if stage == "delivered":
        cell.build()
        cell.compact()
        assert {record.id for record in cell.read().get()} == set(receipt_lines(RECORDS))
