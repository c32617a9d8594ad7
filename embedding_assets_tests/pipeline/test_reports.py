"""Reports in the store: made once of every version, from its records alone, and gone with it."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from embedding_assets.chroma.reports import Examination
from embedding_assets.errors import StoreUnavailableError
from embedding_assets.pipeline import reports
from embedding_assets.pipeline.operations import prune
from embedding_assets.pipeline.reports import PICTURES, current_report, current_statistics, read_report
from embedding_assets.pipeline.statistics import damaged_reports, key_of, read_statistics
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.store.objects import ObjectStore
from embedding_assets.store.sealed import seal
from embedding_assets.vectorstore.commit import history
from embedding_assets.vectorstore.inventory import take_inventory
from embedding_assets_tests.cells import Cell, contents, receipt_lines

pytestmark = pytest.mark.service


def versions(cell: Cell) -> list[str]:
    return [one.version for one in history(cell.store, cell.spec.name) if one.version]


def add_records(cell: Cell, count: int) -> None:
    cell.write(dict(list(receipt_lines(20 + count).items())[20:]))
    cell.deliver()
    cell.compact()


def declare(cell: Cell, **preview: Any) -> Cell:
    spec = cell.spec.model_copy(update={"preview": cell.spec.preview.model_copy(update=preview)})
    return dataclasses.replace(cell, spec=spec)


def test_a_report_says_what_is_in_the_snapshot_and_is_made_once(delivered: Cell) -> None:
    cell = delivered
    made = current_report(cell.store, cell.spec, cell.folder)
    assert made is not None
    numbers = made.statistics
    (version,) = versions(cell)
    assert (numbers.version, numbers.count, numbers.sampled, numbers.dimension) == (version, 20, 20, 64)
    assert (numbers.broken, numbers.zero, numbers.empty, numbers.duplicates) == (0, 0, 0, 0.0)
    assert numbers.metadata_keys == {"at": 1.0, "letters": 1.0}
    assert numbers.searched is None
    texts = receipt_lines(20)
    assert len(numbers.examples) == 5
    assert all(texts[one.id] == one.text and f"at=of {one.id}" in one.metadata for one in numbers.examples)
    assert set(made.pictures) == set(PICTURES)
    page = cell.store.get(made.page).decode()
    assert "whole milk 0 0.00" in page
    before = contents(cell.store)
    assert current_report(cell.store, cell.spec, cell.folder) == made
    assert current_statistics(cell.store, cell.spec, cell.folder) == numbers
    assert contents(cell.store) == before


def test_what_the_proof_of_the_snapshot_found_is_in_its_report_and_only_in_its_own(delivered: Cell) -> None:
    cell = delivered
    add_records(cell, 5)
    newest, older = versions(cell)
    found = Examination(25, "", True, 25, 24, [], recall=0.93, repeated=0.2)
    stale = current_report(cell.store, cell.spec, cell.folder, examined=(older, found))
    assert stale is not None
    assert stale.statistics.searched is None
    cell.store.delete([key_of(cell.spec.name, stale.statistics.version)])
    made = current_report(cell.store, cell.spec, cell.folder, examined=(newest, found))
    assert made is not None
    assert made.statistics.searched is not None
    assert (made.statistics.searched.recall, made.statistics.duplicates) == (0.93, 0.2)
    assert (made.statistics.parent, made.statistics.generation) == (older, 2)


def test_records_that_came_with_a_version_are_looked_at_by_themselves(delivered: Cell) -> None:
    cell = delivered
    add_records(cell, 5)
    made = current_report(cell.store, cell.spec, cell.folder)
    assert made is not None
    assert (made.statistics.newcomers, made.statistics.newcomers_off) == (5, None)  # too few to be judged


def test_where_nothing_may_be_shown_no_text_is_in_anything_but_the_records_themselves(delivered: Cell) -> None:
    cell = declare(delivered, records=0)
    made = current_report(cell.store, cell.spec, cell.folder)
    assert made is not None
    assert made.statistics.examples == ()
    for item in cell.store.walk(made.folder):
        data = cell.store.get(item.key)
        assert b"whole milk" not in data
        assert b"line-000" not in data


def test_texts_are_cut_where_the_declaration_says(delivered: Cell) -> None:
    cell = declare(delivered, records=2, text_chars=6)
    made = current_report(cell.store, cell.spec, cell.folder)
    assert made is not None
    assert [len(one.text) for one in made.statistics.examples] == [6, 6]
    assert "whole milk" not in cell.store.get(made.page).decode()


def test_a_picture_that_cannot_be_drawn_is_told_and_left_out(delivered: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise RuntimeError("no font here")

    monkeypatch.setattr(reports, "health_picture", refuse)
    told: list[str] = []
    made = current_report(delivered.store, delivered.spec, delivered.folder, log=told.append)
    assert made is not None
    assert set(made.pictures) == {"map", "growth"}
    assert told == ["the picture of the health could not be drawn: RuntimeError: no font here"]
    assert read_report(delivered.store, delivered.spec.name, made.statistics.version) == made


def test_growth_goes_back_through_the_log(delivered: Cell) -> None:
    cell = delivered
    for count in (3, 5):
        add_records(cell, count)
    commits = list(history(cell.store, cell.spec.name))
    assert [point.count for point in reports.growth_points(cell.store, cell.spec.name, commits[0])] == [20, 23, 25]
    assert [point.count for point in reports.growth_points(cell.store, cell.spec.name, commits[1])] == [20, 23]


@pytest.mark.parametrize("data", [b"", b"\xff{garbage", b'{"format": 1}', b"newer"])
def test_numbers_that_cannot_be_understood_are_made_again(delivered: Cell, data: bytes) -> None:
    cell = delivered
    made = current_report(cell.store, cell.spec, cell.folder)
    assert made is not None
    key = key_of(cell.spec.name, made.statistics.version)
    newer = data == b"newer"
    cell.store.replace(key, seal("statistics", key, {"format": 99}) if newer else data)
    assert read_statistics(cell.store, cell.spec.name, made.statistics.version) is None
    again = current_report(cell.store, cell.spec, cell.folder)
    assert again is not None
    assert again.statistics == made.statistics
    # What a newer version wrote stays as it is.
    assert read_statistics(cell.store, cell.spec.name, made.statistics.version) == (None if newer else made.statistics)
    assert damaged_reports(cell.store, cell.spec.name) == {}


def test_reports_belong_to_their_versions_are_no_strays_and_are_pruned_with_them(delivered: Cell) -> None:
    cell = delivered
    current_report(cell.store, cell.spec, cell.folder)
    add_records(cell, 5)
    current_report(cell.store, cell.spec, cell.folder)
    newest, older = versions(cell)
    inventory = take_inventory(cell.store, cell.spec.name)
    assert {one.name for one in inventory.reports} == {newest, older}
    assert inventory.strays == ()
    assert {row.get("kind") for row in check_collection(cell.store, cell.spec, "quick", cell.folder).rows} == {
        "delta",
        "snapshot",
    }
    planned = prune(cell.store, cell.spec, keep=1, grace=timedelta(hours=24))
    assert sorted(str(row["kind"]) for row in planned.rows) == ["old", "report"]
    planned.execute()
    assert cell.store.folders(f"{cell.spec.name}/snapshot/report") == [newest]
    assert prune(cell.store, cell.spec, keep=1, grace=timedelta(hours=24)).nothing


def test_a_collection_without_a_snapshot_has_no_report(cell: Cell) -> None:
    assert current_report(cell.store, cell.spec, cell.folder) is None
    assert current_statistics(cell.store, cell.spec, cell.folder) is None


def test_trouble_of_the_store_is_told_as_such_and_leaves_no_half_report(
    delivered: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = delivered
    put = ObjectStore.put_new

    def refuse(store: ObjectStore, key: str, data: bytes) -> None:
        if key.endswith(reports.PAGE):
            raise StoreUnavailableError(key, "the store did not answer", "Later.")
        put(store, key, data)

    monkeypatch.setattr(ObjectStore, "put_new", refuse)
    with pytest.raises(StoreUnavailableError):
        current_report(cell.store, cell.spec, cell.folder)
    monkeypatch.undo()
    (version,) = versions(cell)
    assert read_report(cell.store, cell.spec.name, version) is None
    made = current_report(cell.store, cell.spec, cell.folder)
    assert made is not None
    assert cell.store.exists(key_of(cell.spec.name, version))
