"""Databases of deltas: written as a log, proved without having chromadb read the whole, or written by chromadb."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedding_assets.chroma import log_probe, sqlite_writer
from embedding_assets.chroma.examine import examine
from embedding_assets.chroma.spec import DatabaseSpec, Source, database_files
from embedding_assets.chroma.vectors import as_cosine_gives
from embedding_assets.chroma.write import write
from embedding_assets.records import BATCH_KEY, RecordBatch, digest_of
from embedding_assets_tests.chroma.databases import api_records, edit
from embedding_assets_tests.making import make_records, numbered

SPEC = DatabaseSpec("lines", 8, "cosine")


def source(folder: Path, batch: str, ids: list[str], submitted: int = 1000) -> Source:
    path = folder / f"{batch}.parquet"
    pq.write_table(make_records(ids, seed=submitted, text=batch).to_arrow(), path)
    return Source(path, batch, batch, submitted, "the-delta")


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    """Three batches; of the ids that stand twice the later submission wins, wherever it stands."""
    return [
        source(tmp_path, "a", numbered(0, 20), 3000),
        source(tmp_path, "b", numbered(10, 40), 1000),
        source(tmp_path, "c", numbered(35, 50), 2000),
    ]


def test_what_is_written_is_one_file_that_chromadb_reads_last_submitted_wins(
    tmp_path: Path, sources: list[Source]
) -> None:
    report = write(tmp_path / "db", SPEC, sources)
    assert (report.count, report.applied, report.engine) == (50, {"a": 20, "b": 15, "c": 15}, "direct")
    assert [str(path) for path in database_files(tmp_path / "db")] == ["chroma.sqlite3"]
    records = api_records(tmp_path / "db", tmp_path, "lines")
    assert [metadata[BATCH_KEY] for metadata in records.metadatas] == ["a"] * 20 + ["b"] * 15 + ["c"] * 15
    examined = examine(tmp_path / "db", SPEC, sources)
    assert (examined.problems, examined.count, examined.opened) == ([], 50, False)
    assert examined.digest == digest_of([records]).hex()


@pytest.mark.parametrize("distance", ["cosine", "l2", "ip"])
def test_vectors_are_carried_as_they_were(tmp_path: Path, distance: str) -> None:
    made = source(tmp_path, "a", numbered(0, 5))
    spec = dataclasses.replace(SPEC, distance=distance)
    write(tmp_path / "db", spec, [made])
    wanted = make_records(numbered(0, 5), seed=1000).embeddings
    read = api_records(tmp_path / "db", tmp_path, "lines").embeddings
    assert np.array_equal(read, as_cosine_gives(wanted) if distance == "cosine" else wanted)
    assert examine(tmp_path / "db", spec, [made]).problems == []


def test_what_may_not_be_written_directly_is_written_by_chromadb_and_said_to_be(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "version", lambda _: "1.6.0")
    report = write(tmp_path / "db", SPEC, sources)
    assert (report.count, report.engine) == (50, "api")
    assert "chromadb is 1.6.0" in report.how
    monkeypatch.undo()
    examined = examine(tmp_path / "db", SPEC, sources)
    assert (examined.problems, examined.opened, examined.synced, examined.recall) == ([], True, True, 1.0)


Change = Callable[[RecordBatch], None]


def _shorter(batch: RecordBatch) -> None:
    batch.embeddings[3, 0] = np.nextafter(batch.embeddings[3, 0], np.float32(0))


def _another_text(batch: RecordBatch) -> None:
    batch.documents[3] += "."


def _another_type(batch: RecordBatch) -> None:
    batch.metadatas[3]["n"] = 3.0


def _another_id(batch: RecordBatch) -> None:
    batch.ids[3] = "id-00099"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_shorter, "'id-00003' has another vector"),
        (_another_text, "'id-00003' has another document or metadata"),
        (_another_type, "'id-00003' has another document or metadata"),
        (_another_id, "'id-00003', which no source has"),
    ],
)
def test_the_least_difference_from_its_source_is_found(tmp_path: Path, change: Change, said: str) -> None:
    made = source(tmp_path, "a", numbered(0, 20))
    spec = dataclasses.replace(SPEC, distance="l2")
    write(tmp_path / "db", spec, [made])
    other = make_records(numbered(0, 20), seed=1000, text="a")
    change(other)
    pq.write_table(other.to_arrow(), made.path)
    problems = examine(tmp_path / "db", spec, [made]).problems
    assert said in problems[0]


def test_a_record_that_is_lost_or_written_twice_is_found(tmp_path: Path, sources: list[Source]) -> None:
    write(tmp_path / "db", SPEC, sources)
    edit(tmp_path / "db", "UPDATE embeddings_queue SET id = 'id-00001' WHERE id = 'id-00002'")
    assert "lacks 1 records of its sources, such as 'id-00002'" in examine(tmp_path / "db", SPEC, sources).problems


def test_a_chromadb_that_reads_otherwise_is_noticed(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "db", SPEC, sources)

    def reads_otherwise(folder: Path, collection: str) -> list[RecordBatch]:
        return [make_records(numbered(0, 1))]

    monkeypatch.setattr(log_probe, "read_records", reads_otherwise)
    assert "chromadb does not read" in examine(tmp_path / "db", SPEC, sources).problems[0]
