"""Damage to the records of what was asked: found, named, healed by the next runs; nobody else is stopped by it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.files import store_file, write_parquet
from embedding_assets.batches.requests import Asked, read_requests
from embedding_assets.catalog import Catalog
from embedding_assets.pipeline.cells import land_cell, submit_cell
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.pending import cells_to_run
from embedding_assets.pipeline.status import collection_status
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.sandbox import Sandbox
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets.store.sealed import encode
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets_tests.cells import Cell, flip, paid, receipt_lines

EACH, REQUESTS = 3, 8
RECORDS = EACH * REQUESTS


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


def _folder(cell: Cell, key: str, other: str) -> None:
    cell.store.delete([key])
    cell.store.put_new(f"{key}/x", b"x")


DAMAGES = {one.__name__[1:]: one for one in (_emptied, _cut, _garbage, _flipped, _swapped, _missing, _folder)}
KINDS: dict[str, Callable[[Asked], str]] = {
    "request": lambda one: layout.REQUEST,
    "batch": lambda one: layout.BATCH,
    "ids": lambda one: one.request.ids.name,
    "documents": lambda one: one.request.documents.name,
}
STAGES = ("sent", "landed")


@pytest.fixture(scope="module", params=STAGES)
def stage(request: pytest.FixtureRequest, shared_service: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """Requests that are sent and finished, or landed too. Each test damages a copy of it."""
    cell = Cell.make(shared_service, tmp_path_factory.mktemp("whole"), batch_requests=EACH)
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


# Each damage meets an object of every kind, each of another request; as many requests are left whole, but for those
# that are swapped with them.
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_what_was_asked_stops_nobody_else(stage: Cell, damage: str, tmp_path: Path) -> None:
    landed = bool(stage.store.folders(layout.results(stage.spec.name)))
    if landed and damage not in ("emptied", "missing", "folder"):
        pytest.skip("the landing says the same, whatever the damage is")
    cell = stage.copy(tmp_path)
    asked = read_requests(cell.store, cell.spec.name, cell.day)
    damaged: dict[str, list[str]] = {}
    for number, (kind, name_of) in enumerate(KINDS.items()):
        one, other = asked[number], asked[number + len(KINDS)]
        DAMAGES[damage](cell, *(f"{two.request.folder}/{name_of(two)}" for two in (one, other)))
        damaged[kind] = [one.request.request_id, other.request.request_id][: 1 + (damage == "swapped")]
    before = paid(cell)

    # Only whoever reads the documents sees that they are not what they were, where their size is.
    full = damage in ("flipped", "swapped")
    found = check_collection(cell.store, cell.spec, "full" if full else "quick", tmp_path)
    named = {row["name"] for row in found.rows if row["kind"] == "request" and row["verdict"] == "corrupted"}
    assert named == {one for some in damaged.values() for one in some}
    unread = {"documents"} if full else set()
    told = "\n".join(collection_status(cell.store, cell.spec).damaged_requests)
    assert all(one in told for kind, some in damaged.items() if kind not in unread for one in some)

    # Where nobody repairs, the runs do.
    if damage != "swapped":
        repair(cell.store, cell.spec, level="quick", run_id="test", scratch=tmp_path).execute()
    cell.to_run()
    _pass(cell)

    assert {record.id for record in cell.read().get(limit=RECORDS)} == set(receipt_lines(RECORDS))
    assert paid(cell) == before, "something was paid twice"
    books = cell.books()
    assert (books.requested, books.accepted, books.damaged) == (RECORDS, RECORDS, ())
    after = check_collection(cell.store, cell.spec, "full" if full else "quick", tmp_path)
    assert not [row for row in after.rows if row.get("verdict") == "corrupted"]
    kept = [entry for entry in list_quarantine(cell.store, cell.spec.name) if entry.kind == "request"]
    assert damage == "missing" or len(kept) >= sum(map(len, damaged.values()))
    again = repair(cell.store, cell.spec, level="quick", run_id="test", scratch=tmp_path).execute()
    assert not [row for row in again.rows if row["action"] != "left"], "a second repair has something to do"


def _with_file(cell: Cell, asked: Asked, name: str, table: pa.Table, folder: Path) -> Request:
    """A request with another file in the place of one of its two, everything sealed again."""
    file = write_parquet(table, folder / f"{name}.parquet")
    stored = store_file(cell.store, asked.request.folder, file, named_by_content=True)
    cell.store.delete([f"{asked.request.folder}/{getattr(asked.request, name).name}"])
    return replace(asked.request, **{name: stored})


def _a_row_gone(cell: Cell, asked: Asked, name: str, folder: Path) -> Request:
    table = pq.read_table(
        pa.BufferReader(cell.store.get(f"{asked.request.folder}/{getattr(asked.request, name).name}"))
    )
    return _with_file(cell, asked, name, table.slice(1), folder)


def _another_digest(cell: Cell, asked: Asked, name: str, folder: Path) -> Request:
    rows = pq.read_table(pa.BufferReader(cell.store.get(f"{asked.request.folder}/{asked.request.ids.name}")))
    first, *others = rows.column("digest").to_pylist()
    digests = pa.array([bytes(first[:-1] + b"!"), *others], rows.schema.field("digest").type)
    edited = rows.set_column(rows.schema.get_field_index("digest"), rows.schema.field("digest"), digests)
    return _with_file(cell, asked, "ids", edited, folder)


def _other_ids(cell: Cell, asked: Asked, swapped: bool, folder: Path) -> Request:
    """The list with another id beside a digest, or with two ids in each other's place; the digests are as they were."""
    rows = pq.read_table(pa.BufferReader(cell.store.get(f"{asked.request.folder}/{asked.request.ids.name}")))
    first, second, *others = rows.column("id").to_pylist()
    ids = pa.array([second, first, *others] if swapped else [f"{first}x", second, *others])
    edited = rows.set_column(rows.schema.get_field_index("id"), rows.schema.field("id"), ids)
    return _with_file(cell, asked, "ids", edited, folder)


def _another_text(cell: Cell, asked: Asked, name: str, folder: Path) -> Request:
    rows = pq.read_table(pa.BufferReader(cell.store.get(f"{asked.request.folder}/{asked.request.documents.name}")))
    texts = pa.array([text + "!" for text in rows.column("document").to_pylist()])
    edited = rows.set_column(rows.schema.get_field_index("document"), rows.schema.field("document"), texts)
    return _with_file(cell, asked, "documents", edited, folder)


EDITS: dict[str, Callable[[Cell, Asked, Path], Request]] = {
    "ids without a row": lambda cell, asked, folder: _a_row_gone(cell, asked, "ids", folder),
    "ids with another digest": lambda cell, asked, folder: _another_digest(cell, asked, "ids", folder),
    "ids with another id": lambda cell, asked, folder: _other_ids(cell, asked, False, folder),
    "ids with two ids swapped": lambda cell, asked, folder: _other_ids(cell, asked, True, folder),
    "documents without a row": lambda cell, asked, folder: _a_row_gone(cell, asked, "documents", folder),
    "another text": lambda cell, asked, folder: _another_text(cell, asked, "documents", folder),
    "notes of an input file": lambda cell, asked, folder: replace(asked.request, input_notes="x"),
    "another program's": lambda cell, asked, folder: replace(asked.request, foreign=True),
    "another model": lambda cell, asked, folder: replace(asked.request, model="other"),
    "other dimensions": lambda cell, asked, folder: replace(asked.request, dimensions=65),
    "another day": lambda cell, asked, folder: replace(asked.request, day="2026-01-02"),
    "another attempt": lambda cell, asked, folder: replace(asked.request, attempt=2),
    "another time": lambda cell, asked, folder: replace(asked.request, made="20250101T000000000000-0a1b2c3d"),
    "a repetition": lambda cell, asked, folder: replace(asked.request, repeats="0" * 32),
    "another count": lambda cell, asked, folder: replace(asked.request, count=asked.request.count + 1),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_was_edited_and_sealed_again_is_held_against_the_rest_of_its_request(
    stage: Cell, edit: str, tmp_path: Path
) -> None:
    cell = stage.copy(tmp_path)
    before = paid(cell)
    one = read_requests(cell.store, cell.spec.name, cell.day)[0]
    request = EDITS[edit](cell, one, tmp_path)
    key = f"{one.request.folder}/{layout.REQUEST}"
    cell.store.replace(key, encode(request, key))

    found = check_collection(cell.store, cell.spec, "full", tmp_path)
    assert request.request_id in {row["name"] for row in found.rows if row.get("verdict") == "corrupted"}

    repair(cell.store, cell.spec, level="full", run_id="test", scratch=tmp_path).execute()
    _pass(cell)
    assert {one.id: one.document for one in cell.read().get(limit=RECORDS)} == receipt_lines(RECORDS)
    assert paid(cell) == before, "something was paid twice"
    after = check_collection(cell.store, cell.spec, "full", tmp_path)
    assert not [row for row in after.rows if row.get("verdict") == "corrupted"]


@pytest.mark.parametrize("swapped", [False, True])
def test_ids_that_were_edited_beside_their_digests_are_neither_asked_again_nor_left_out(
    stage: Cell, swapped: bool, tmp_path: Path
) -> None:
    cell = stage.copy(tmp_path)
    before = paid(cell)
    request = _other_ids(cell, read_requests(cell.store, cell.spec.name, cell.day)[0], swapped, tmp_path)
    key = f"{request.folder}/{layout.REQUEST}"
    cell.store.replace(key, encode(request, key))
    today = replace(cell, day=layout.day_of(layout.now().timestamp()))
    today.write(receipt_lines(RECORDS))
    assert today.submit().count("submitted") == 0
    _pass(cell)
    assert {one.id: one.document for one in cell.read().get(limit=RECORDS)} == receipt_lines(RECORDS)
    assert paid(cell) == before, "something was paid twice"
    assert not check_collection(cell.store, cell.spec, "full", tmp_path).count("corrupted")


def test_a_first_attempt_that_was_edited_to_be_another_is_not_asked_again(stage: Cell, tmp_path: Path) -> None:
    cell = stage.copy(tmp_path)
    request = replace(read_requests(cell.store, cell.spec.name, cell.day)[0].request, attempt=2)
    key = f"{request.folder}/{layout.REQUEST}"
    cell.store.replace(key, encode(request, key))
    today = replace(cell, day=layout.day_of(layout.now().timestamp()))
    today.write(receipt_lines(RECORDS))
    assert today.submit().count("submitted") == 0


def test_a_damaged_list_of_refused_documents_is_moved_aside_and_made_again(stage: Cell, tmp_path: Path) -> None:
    cell = stage.copy(tmp_path)
    cell.write({**receipt_lines(RECORDS), "no-text": ""})
    cell.submit()
    rejected = cell.books().rejections
    assert len(rejected) == 1
    [key] = [item.key for item in cell.store.walk(f"{layout.requests(cell.spec.name, cell.day)}/refused")]
    for damage in ("flipped", "emptied", "folder"):
        DAMAGES[damage](cell, key, "")
        assert cell.books().damaged
        repair(cell.store, cell.spec, level="quick", run_id="test", scratch=tmp_path).execute()
        assert (cell.books().damaged, cell.books().rejections) == ((), rejected)
        [key] = [item.key for item in cell.store.walk(f"{layout.requests(cell.spec.name, cell.day)}/refused")]


@pytest.mark.parametrize("deleted", [1, REQUESTS])
def test_deleted_requests_are_neither_asked_nor_paid_again(stage: Cell, deleted: int, tmp_path: Path) -> None:
    cell = stage.copy(tmp_path)
    before = paid(cell)
    for one in read_requests(cell.store, cell.spec.name, cell.day)[:deleted]:
        cell.store.delete([item.key for item in cell.store.walk(one.request.folder)])
    cell.submit()
    cell.land()
    assert cell.books().accepted == cell.books().requested == RECORDS
    assert paid(cell) == before


@pytest.mark.parametrize("place", ["another day", "another collection"])
@pytest.mark.parametrize("made_again", [False, True])
def test_a_request_that_was_moved_is_put_back(stage: Cell, place: str, made_again: bool, tmp_path: Path) -> None:
    cell = stage.copy(tmp_path)
    before = paid(cell)
    first, *_, last = read_requests(cell.store, cell.spec.name, cell.day)
    other = cell.spec.model_copy(update={"name": f"{cell.spec.name}-other", "documents": None})
    day = "2026-01-02" if place == "another day" else cell.day
    foreign = cell.spec if place == "another day" else other
    for one in (first, last):
        away = tmp_path / "store" / layout.requests(foreign.name, day) / one.request.request_id
        away.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "store" / one.request.folder, away)
    found = check_collection(cell.store, foreign, "quick", tmp_path)
    named = {row["name"] for row in found.rows if row["kind"] == "request" and row.get("day") == day}
    assert named >= {first.request.request_id, last.request.request_id}

    # The sensor asks for a run of the foreign place, or of its own: whichever comes first, it is asked for once.
    catalog = Catalog(collections={spec.name: spec for spec in (cell.spec, other)})
    runs, _ = cells_to_run(cell.api, cell.store, catalog)
    assert {(run.collection, run.day) for run in runs} & {(foreign.name, day), (cell.spec.name, cell.day)}
    if made_again:
        cell.submit()
    submit_cell(cell.api, cell.store, foreign, day)
    land_cell(cell.api, cell.store, foreign, day)
    cell.submit()
    cell.land()
    cell.build()
    assert paid(cell) == before
    books = cell.books()
    assert (books.requested, books.accepted, books.damaged) == (RECORDS, RECORDS, ())
    assert not read_requests(cell.store, foreign.name, day)
    for spec in (cell.spec, foreign):
        again = repair(cell.store, spec, level="quick", run_id="test", scratch=tmp_path)
        assert not [row for row in again.rows if row["action"] not in ("left", "compact")]
        assert not check_collection(cell.store, spec, "quick", tmp_path).count("corrupted")


def test_what_a_look_shows_is_healed_by_the_run_that_it_asks_for(stage: Cell, tmp_path: Path) -> None:
    cell = stage.copy(tmp_path)
    before = paid(cell)
    cell.land()
    cell.build()
    assert cell.to_run() == []
    emptied, gone, unsent, deleted, *_ = read_requests(cell.store, cell.spec.name, cell.day)
    cell.store.replace(f"{emptied.request.folder}/{layout.BATCH}", b"")
    cell.store.delete([f"{gone.request.folder}/{gone.request.documents.name}"])
    cell.store.delete([f"{unsent.request.folder}/{layout.REQUEST}"])
    cell.store.delete([item.key for item in cell.store.walk(deleted.request.folder)])
    (run,) = cell.to_run()
    assert "records of what was asked are damaged or gone" in run.reasons
    cell.land()
    cell.build()
    assert cell.to_run() == []
    assert cell.books().damaged == ()
    assert cell.books().accepted == RECORDS
    assert paid(cell) == before


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Another server behind the URL: it knows none of the batches."""
    with Sandbox.start(tmp_path_factory.mktemp("empty"), api_key="sk-sandbox-0123456789") as sandbox:
        yield sandbox


@pytest.mark.parametrize("documents", ["there", "gone"])
def test_of_a_day_only_deltas_are_left(stage: Cell, empty: Sandbox, documents: str, tmp_path: Path) -> None:
    cell = dataclasses.replace(
        stage.copy(tmp_path), api=EmbeddingApi(ApiSettings(empty.api_key, empty.base_url), retries=0)
    )
    land_cell(stage.api, cell.store, cell.spec, cell.day)
    cell.build()
    cell.compact()
    for folder in (of(cell.spec.name) for of in (layout.requests, layout.asked, layout.results)):
        shutil.rmtree(tmp_path / "store" / folder)
    if documents == "gone":
        shutil.rmtree(tmp_path / "documents")
    runs = cell.to_run()
    assert [run.day for run in runs] == [cell.day]
    repair(cell.store, cell.spec, level="quick", run_id="test", scratch=tmp_path).execute()
    cell.land()
    assert cell.submit().rows == ()
    cell.build()
    cell.compact()
    assert paid(cell) == 0
    books = cell.books()
    assert (books.requested, books.accepted, books.pending) == (RECORDS, RECORDS, 0)
    assert cell.proof().lost == ()
