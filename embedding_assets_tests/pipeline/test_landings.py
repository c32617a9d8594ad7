"""Landings prove themselves; of several of one batch, none hides what another one has."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedding_assets.batches.files import StoredFile
from embedding_assets.batches.landing import LOST, Landing, counting_landings
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.records import RecordBatch
from embedding_assets.sandbox import Sandbox
from embedding_assets.store import layout
from embedding_assets.store.sealed import encode
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets_tests.cells import Cell, paid, receipt_lines

pytestmark = pytest.mark.service

EACH = 4


def _with(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def _another_text(table: pa.Table) -> pa.Table:
    return _with(table, "document", ["forged", *table.column("document").to_pylist()[1:]])


def _one_number(table: pa.Table) -> pa.Table:
    batch = RecordBatch.from_arrow(table)
    vectors = np.array(batch.embeddings)
    vectors[3, 5] = np.nextafter(vectors[3, 5], np.float32(1))
    return dataclasses.replace(batch, embeddings=vectors).to_arrow()


def _vectors_shuffled(table: pa.Table) -> pa.Table:
    batch = RecordBatch.from_arrow(table)
    return dataclasses.replace(batch, embeddings=np.roll(batch.embeddings, 1, axis=0)).to_arrow()


def _ids_swapped(table: pa.Table) -> pa.Table:
    first, second, *others = table.column("id").to_pylist()
    return _with(table, "id", [second, first, *others])


def _a_row_twice(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(0, 1), table.slice(0, table.num_rows - 1)])


def _a_row_less(table: pa.Table) -> pa.Table:
    return table.slice(1)


def _another_table(table: pa.Table) -> pa.Table:
    return table.select(["id"])


RECORDS = [_another_text, _one_number, _vectors_shuffled, _ids_swapped, _a_row_twice, _a_row_less, _another_table]


def put_file(cell: Cell, landing: Landing, part: str, data: bytes) -> None:
    """Write a landing's file, and its size and SHA-256 into the manifest, which is sealed again."""
    file = StoredFile(f"{part}.parquet", len(data), hashlib.sha256(data).hexdigest())
    cell.store.replace(f"{landing.folder}/{file.name}", data)
    key = f"{landing.folder}/{layout.MANIFEST}"
    edited = dataclasses.replace(landings(cell)[landing.batch_id], **{f"{part}_file": file})
    cell.store.replace(key, encode(edited, key))


def edit_file(cell: Cell, landing: Landing, part: str, edit: Callable[[pa.Table], pa.Table]) -> None:
    table = pq.read_table(pa.BufferReader(cell.store.get(f"{landing.folder}/{part}.parquet")))
    sink = pa.BufferOutputStream()
    pq.write_table(edit(table), sink)
    put_file(cell, landing, part, sink.getvalue().to_pybytes())


def landings(cell: Cell) -> dict[str, Landing]:
    return {one.batch_id: one for one in counting_landings(cell.store, cell.spec.name, cell.day)}


def corrupted(cell: Cell, folder: Path) -> list[str]:
    found = check_collection(cell.store, cell.spec, "full", folder)
    # Where no landing is left, that is told of its request, too.
    wrong = [row for row in found.rows if row.get("verdict") == "corrupted" and row["kind"] not in ("landing", "books")]
    return [f"{row['kind']} {row['name']}" for row in wrong]


def held(cell: Cell) -> dict[str, tuple[str, bytes]]:
    """Every record of the snapshot: text and vector."""
    found = cell.read().get(limit=100, embeddings=True)
    return {one.id: (one.document, np.asarray(one.embedding, np.float32).tobytes()) for one in found}


def runs(cell: Cell) -> None:
    """The next two runs of the cell, and the compaction."""
    for _ in range(2):
        cell.deliver()
    compact(cell.store, cell.spec, run_id="test", scratch=cell.folder)


@pytest.fixture(scope="module")
def whole(shared_service: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A collection of which one more batch has landed than there are ways to damage one; not to be changed."""
    shared_service.clear_faults()
    made = Cell.make(shared_service, tmp_path_factory.mktemp("whole"), batch_requests=EACH)
    made.write(receipt_lines(EACH * (len(RECORDS) + 1)))
    made.submit()
    made.wait()
    made.land()
    return made


@pytest.fixture(scope="module")
def compacted(whole: Cell, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """The same with a snapshot; not to be changed."""
    made = whole.copy(tmp_path_factory.mktemp("compacted"))
    made.build()
    made.compact()
    return made


@pytest.fixture(params=["whole", "compacted"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Cell:
    """A copy of either, to be changed."""
    cell: Cell = request.getfixturevalue(request.param)
    return cell.copy(tmp_path)


def test_records_that_are_not_those_landed_are_named_and_landed_again_although_their_checksum_fits(
    stage: Cell, compacted: Cell, tmp_path: Path
) -> None:
    *broken, sound = landings(stage).values()
    before, built = paid(stage), head(stage.store, stage.spec.name) is not None
    for landing, edit in zip(broken, RECORDS, strict=True):
        edit_file(stage, landing, "records", edit)
    names = [f"damaged landing {one.batch_id}/{one.landing_id}" for one in broken]
    assert sorted(corrupted(stage, tmp_path)) == sorted(names)
    if built:
        planned = repair(stage.store, stage.spec, level="full", run_id="test", scratch=tmp_path)
        assert {row["action"] for row in planned.rows} == {"quarantine"}
        planned.execute()
    else:
        done = stage.build()
        assert sorted(done.damaged) == sorted(one.batch_id for one in broken)
        assert [[entry.batch_id for entry in one.batches] for one in done.built] == [[sound.batch_id]]
    runs(stage)
    assert held(stage) == held(compacted)
    assert [entry.kind for entry in list_quarantine(stage.store, stage.spec.name)] == ["landing"] * len(broken)
    assert corrupted(stage, tmp_path) == []
    assert (stage.books().pending, paid(stage)) == (0, before)


def test_records_and_lists_of_a_neighbour_are_noticed_and_landed_again(stage: Cell, tmp_path: Path) -> None:
    first, second, third, fourth, *_ = landings(stage).values()
    for part, one, other in (("records", first, second), ("accepted", third, fourth)):
        files = [stage.store.get(f"{landing.folder}/{part}.parquet") for landing in (one, other)]
        put_file(stage, one, part, files[1])
        put_file(stage, other, part, files[0])
    stage.store.replace(f"{landings(stage)[fourth.batch_id].folder}/{layout.MANIFEST}", b"{}")
    wrong = sorted(f"damaged landing {one.batch_id}/{one.landing_id}" for one in (first, second, third, fourth))
    assert sorted(corrupted(stage, tmp_path)) == wrong
    repair(stage.store, stage.spec, level="full", run_id="test", scratch=tmp_path).execute()
    assert stage.land().count("landed") >= len(wrong)
    assert corrupted(stage, tmp_path) == []
    assert stage.books().pending == 0


def test_counts_that_are_not_those_of_a_landings_lists_are_named_and_landed_again(stage: Cell, tmp_path: Path) -> None:
    edits = [{"requested": EACH + 1}, {"rejected": 1}, {"missing": 1, "requested": EACH + 1}, {"accepted": EACH - 1}]
    wrong = []
    for landing, edit in zip(landings(stage).values(), edits, strict=False):
        key = f"{landing.folder}/{layout.MANIFEST}"
        stage.store.replace(key, encode(dataclasses.replace(landing, **edit), key))
        wrong.append(f"damaged landing {landing.batch_id}/{landing.landing_id}")
    assert sorted(corrupted(stage, tmp_path)) == sorted(wrong)
    repair(stage.store, stage.spec, level="full", run_id="test", scratch=tmp_path).execute()
    stage.land()
    assert corrupted(stage, tmp_path) == []
    assert stage.books().pending == 0


def empty(cell: Cell, landing: Landing, status: str = "completed") -> Landing:
    """The same landing without its records, in good order but for that."""
    bare = landing_without(cell, landing, landing.requested)
    return dataclasses.replace(bare, status=status)


def landing_without(cell: Cell, landing: Landing, lacking: int) -> Landing:
    made = dataclasses.replace(
        landing, landing_id=layout.new_id(), accepted=landing.accepted - lacking, missing=lacking
    )
    for part in ("records", "accepted", "rejected"):
        table = pq.read_table(pa.BufferReader(cell.store.get(f"{landing.folder}/{part}.parquet")))
        sink = pa.BufferOutputStream()
        pq.write_table(table.slice(0, max(0, table.num_rows - lacking)), sink)
        data = sink.getvalue().to_pybytes()
        file = StoredFile(f"{part}.parquet", len(data), hashlib.sha256(data).hexdigest())
        cell.store.replace(f"{made.folder}/{file.name}", data)
        made = dataclasses.replace(made, **{f"{part}_file": file})
    return made


OTHERS: dict[str, Callable[[Cell, Landing], Landing]] = {
    "empty": empty,
    "emptier": lambda cell, landing: landing_without(cell, landing, 4),
    "lost": lambda cell, landing: empty(cell, landing, LOST),
    "of the same": lambda cell, landing: landing_without(cell, landing, 0),
    "of nothing asked": lambda cell, landing: dataclasses.replace(
        empty(cell, landing), requested=0, missing=0, digest="0" * 64
    ),
}


def put_landings(cell: Cell, names: Sequence[str]) -> None:
    """Write further landings of every batch, in this order."""
    for landing in landings(cell).values():
        for name in names:
            one = OTHERS[name](cell, landing)
            key = f"{one.folder}/{layout.MANIFEST}"
            cell.store.put_new(key, encode(one, key))


@pytest.mark.parametrize("names", list(itertools.permutations(OTHERS, 2)), ids=" then ".join)
def test_no_later_landing_takes_records_out_of_the_books(landed: Cell, names: Sequence[str]) -> None:
    put_landings(landed, names)
    assert (landed.books().accepted, landed.books().pending) == (20, 0)
    assert [one.accepted for one in landings(landed).values()] == [10, 10]
    assert [one.reasons for one in landed.to_run()] == [("2 landed batches are in no delta",)]


@pytest.mark.parametrize("names", [tuple(OTHERS), tuple(reversed(OTHERS))], ids=" then ".join)
@pytest.mark.parametrize("stage", ["landed", "delivered"])
def test_no_later_landing_takes_records_out_of_the_snapshot(
    request: pytest.FixtureRequest, finished: Cell, stage: str, names: Sequence[str]
) -> None:
    cell: Cell = request.getfixturevalue(stage)
    before = paid(cell)
    put_landings(cell, names)
    runs(cell)
    assert held(cell) == held(finished)
    assert (cell.books().accepted, cell.books().again, paid(cell)) == (20, 0, before)
    assert cell.to_run() == []
