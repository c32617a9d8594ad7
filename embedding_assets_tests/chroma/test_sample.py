"""Samples read from databases: records as they are, as many as asked for, from all over, the same for the same seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from embedding_assets.chroma import child
from embedding_assets.chroma.read import read_records
from embedding_assets.chroma.sample import read_brought, read_sample
from embedding_assets.chroma.spec import DatabaseSpec
from embedding_assets.records import RecordBatch
from embedding_assets_tests.chroma.databases import NAME, Setup, apply, client, joined, new_collection
from embedding_assets_tests.making import make_records, numbered


@pytest.fixture(scope="module", params=["synced", "only the log"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 records; some deleted, some replaced; with a second collection beside."""
    folder = tmp_path_factory.mktemp("sample")
    setup = Setup(sync_threshold=100 if request.param == "synced" else 100_000)
    with client(folder) as opened:
        for name, seed in (("beside", 5), (NAME, 1)):
            made = make_records(numbered(0, 300), seed=seed)
            columns = {"embeddings": made.embeddings, "documents": made.documents, "metadatas": made.metadatas}
            collection = new_collection(opened, setup, name)
            apply(
                collection,
                [
                    ("add", {"ids": made.ids, **columns}),
                    ("delete", {"ids": made.ids[10:60]}),
                    ("update", {"ids": made.ids[100:120], "metadatas": [{"new": True}] * 20}),
                ],
            )
    return folder


def by_id(batch: RecordBatch) -> dict[str, tuple[bytes, str, dict[str, object]]]:
    return {
        record_id: (vector.tobytes(), document, dict(metadata))
        for record_id, vector, document, metadata in zip(
            batch.ids, batch.embeddings, batch.documents, batch.metadatas, strict=True
        )
    }


@pytest.mark.parametrize("most", [0, 1, 40, 250, 1000])
def test_a_sample_is_of_records_as_they_are_read_in_full(database: Path, most: int) -> None:
    every = by_id(joined(read_records(database, NAME)))
    count, sample = read_sample(database, NAME, most, seed=3)
    assert count == len(every) == 250
    assert len(sample) == len(set(sample.ids)) == min(most, 250)
    assert by_id(sample).items() <= every.items()
    again = read_sample(database, NAME, most, seed=3)[1]
    assert (again.ids, again.embeddings.tobytes()) == (sample.ids, sample.embeddings.tobytes())


def test_samples_come_from_all_over_and_every_record_may_be_in_one(database: Path) -> None:
    seen = np.zeros(300)
    for seed in range(60):
        for record_id in read_sample(database, NAME, 50, seed)[1].ids:
            seen[int(record_id[3:])] += 1
    there = np.r_[seen[:10], seen[60:]]
    assert (there > 0).all()
    assert abs(there[:125].mean() - there[125:].mean()) < 2  # 12 on average


def test_what_a_delta_brought_is_told_from_the_rest(tmp_path: Path) -> None:
    made = make_records(numbered(0, 120), seed=1)
    metadatas = [{"ea:delta": f"delta {i % 3}", "n": i} for i in range(120)]
    with client(tmp_path) as opened:
        for name in ("beside", NAME):
            new_collection(opened, Setup(sync_threshold=100), name).add(
                ids=made.ids, embeddings=made.embeddings, documents=made.documents, metadatas=metadatas
            )
    every = by_id(joined(read_records(tmp_path, NAME)))
    for deltas, most, count in ((["delta 1"], 500, 40), (["delta 0", "delta 2"], 50, 50), (["none"], 5, 0), ([], 5, 0)):
        found = read_brought(tmp_path, NAME, deltas, most, seed=1)
        assert len(found) == count
        assert by_id(found).items() <= every.items()
        assert {metadata["ea:delta"] for metadata in found.metadatas} <= set(deltas)


def test_a_sample_is_read_without_a_write(database: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in database.rglob("*")}
    read_sample(database, NAME, 50, 0)
    assert {path: path.stat().st_mtime_ns for path in database.rglob("*")} == before


def test_where_the_format_is_not_known_chromadb_itself_is_asked(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(database, copy)
    monkeypatch.setattr(child, "known_format", lambda folder: False)
    every = by_id(joined(read_records(database, NAME)))
    count, sample = child.sample_of_database(copy, DatabaseSpec(NAME, 8, "cosine"), 40, seed=3)
    assert (count, len(sample)) == (250, 40)
    assert by_id(sample).items() <= every.items()
