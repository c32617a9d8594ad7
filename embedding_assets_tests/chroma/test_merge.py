"""Merging directly: the same records as through ChromaDB, in an index that is whole and that ChromaDB goes on with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedding_assets.chroma import merge as merge_module
from embedding_assets.chroma.child import examine_in_child, merge_in_child
from embedding_assets.chroma.hnsw_files import open_hnsw
from embedding_assets.chroma.index_metadata import read_index_metadata
from embedding_assets.chroma.merge import merge
from embedding_assets.chroma.read import read_records
from embedding_assets.chroma.reports import MergeReport
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.structure import check_structure
from embedding_assets.records import RecordBatch, digest_of
from embedding_assets_tests.chroma import databases

DIMENSION = 12


def spec_of(space: str = "cosine", dimension: int = DIMENSION) -> DatabaseSpec:
    return DatabaseSpec(databases.NAME, dimension, space)


def records(seed: int, ids: list[int], dimension: int = DIMENSION) -> RecordBatch:
    rng = np.random.default_rng(seed)
    return RecordBatch(
        [f"id-{i}" for i in ids],
        rng.standard_normal((len(ids), dimension)).astype(np.float32) * np.float32(3),
        [f"text {rng.integers(0, 99)} of {i} \u00e4\U0001f600" for i in ids],
        [{"n": i, "part": 0.5 * i, "odd": bool(i % 2)} if i % 3 else {"name": str(i)} for i in ids],
    )


def source(folder: Path, name: str, batch: RecordBatch, submitted: int) -> Source:
    folder.mkdir(exist_ok=True)
    pq.write_table(batch.to_arrow(), folder / name)
    return Source(folder / name, name, f"batch-{name}", submitted, f"delta-{name}")


def random_sources(folder: Path, seed: int, rounds: int) -> list[list[Source]]:
    """Rounds of one to three sources with new, changed and repeated records, submitted in any order."""
    rng = np.random.default_rng(seed)
    out: list[list[Source]] = []
    for index in range(rounds):
        some = []
        for part in range(int(rng.integers(1, 4))):
            if out and rng.random() < 0.2:
                some.append(out[0][0])
                continue
            ids = rng.permutation(150)[: int(rng.integers(1, 60))].tolist()
            batch = records(int(rng.integers(0, 3)), ids)
            some.append(source(folder, f"{index}-{part}", batch, int(rng.integers(0, 50))))
        out.append(some)
    return out


@pytest.mark.parametrize(("space", "seed"), [("cosine", 1), ("cosine", 2), ("l2", 3), ("ip", 4)])
def test_merged_directly_and_through_chromadb_the_records_are_the_same(tmp_path: Path, space: str, seed: int) -> None:
    spec, rounds = spec_of(space), random_sources(tmp_path / "sources", seed, 5)
    direct, api = tmp_path / "direct", tmp_path / "api"
    for some in rounds:
        mine = merge(direct, spec, some)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(merge_module, "obstacle", lambda *_: "asked for")
            theirs = merge(api, spec, some)
        assert (mine.engine, mine.obstacle, theirs.engine, theirs.obstacle) == ("direct", "", "api", "asked for")
        assert (mine.kept, mine.replaced, mine.added, mine.applied) == (
            theirs.kept,
            theirs.replaced,
            theirs.added,
            theirs.applied,
        )
    databases.wait_until_closed(api)
    databases.wait_until_closed(direct)
    assert not check_structure(direct).problems
    assert digest_of(read_records(direct)).hex() == digest_of(read_records(api)).hex()
    report = examine_in_child(direct, spec, [s for some in rounds for s in some], records=150, subject="merged")
    assert (report.problems, report.synced, report.unreachable) == ([], True, 0.0)
    # Beyond the hundred candidates of a search it is an approximation, and two threads never make the same graph twice.
    assert report.found >= 0.9 * report.sampled
    assert report.recall is not None
    assert report.recall >= 0.95


@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
def test_chromadb_goes_on_writing_to_what_was_merged(tmp_path: Path, space: str) -> None:
    folder = tmp_path / "db"
    merge(folder, spec_of(space), [source(tmp_path / "s", "a", records(1, list(range(200))), 1)])
    more = records(2, list(range(150, 350)))
    with databases.client(folder) as client:
        handle = client.get_collection(databases.NAME, embedding_function=None)
        handle.modify(configuration={"hnsw": {"sync_threshold": 50}})
    with databases.client(folder) as client:
        handle = client.get_collection(databases.NAME, embedding_function=None)
        handle.upsert(ids=more.ids, embeddings=more.embeddings, documents=more.documents, metadatas=more.metadatas)
        handle.delete(ids=["id-0", "id-349"])
        assert handle.count() == 348
    assert not check_structure(folder).problems
    with databases.client(folder) as client:
        handle = client.get_collection(databases.NAME, embedding_function=None)
        assert handle.count() == 348
        got = handle.get(ids=["id-1", "id-150"], include=["documents", "embeddings"])
        assert got["documents"][got["ids"].index("id-150")] == more.documents[0]
        assert np.allclose(got["embeddings"][got["ids"].index("id-150")], more.embeddings[0], atol=1e-5)
        found = handle.query(query_embeddings=more.embeddings[10:11], n_results=3)
        assert space == "ip" or found["ids"][0][0] == more.ids[10]
        assert handle.get(where_document={"$contains": "of 340"})["ids"] == ["id-340"]
    # And what it wrote is merged into again, once its index is written to the end.
    again = merge(folder, spec_of(space), [source(tmp_path / "s", "b", records(3, [1, 400]), 9)])
    assert again.obstacle in ("", "its index was not written to the end")
    assert [record for batch in read_records(folder) for record in batch.ids][-2:] == ["id-1", "id-400"]


def test_a_record_that_comes_again_with_its_vector_keeps_its_place_in_the_index(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    batch = records(1, list(range(100)))
    merge(folder, spec_of(), [source(tmp_path / "s", "a", batch, 1)])
    renamed = RecordBatch(batch.ids, batch.embeddings, [f"new {text}" for text in batch.documents], batch.metadatas)
    report = merge(folder, spec_of(), [source(tmp_path / "s", "b", renamed, 2)])
    assert (report.replaced, report.rebuilt) == (100, False)
    assert elements(folder) == (100, 0)
    assert next(read_records(folder)).documents[0].startswith("new ")


def test_past_a_fifth_of_deleted_elements_the_index_is_made_anew_without_them(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    spec = spec_of()
    sources = [source(tmp_path / "s", "a", records(1, list(range(200))), 1)]
    merge(folder, spec, sources)
    for submitted, rebuilt, expected in ((2, False, (230, 30)), (3, True, (200, 0)), (4, False, (230, 30))):
        sources.append(source(tmp_path / "s", str(submitted), records(submitted, list(range(30))), submitted))
        assert merge(folder, spec, sources[-1:]).rebuilt is rebuilt
        assert elements(folder) == expected
    report = examine_in_child(folder, spec, sources, records=200, subject="merged")
    assert (report.problems, report.count) == ([], 200)
    assert report.recall is not None
    assert report.recall >= 0.95


def test_many_equal_vectors_hide_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # two threads never make the same graph
    spec, folder = spec_of(dimension=32), tmp_path / "db"
    batch = records(1, list(range(1500)), 32)
    batch.embeddings[300:900] = batch.embeddings[5]
    merge(folder, spec, [source(tmp_path / "s", "a", batch, 1)])
    late = records(2, list(range(2000, 2300)), 32)
    late.embeddings[:100] = batch.embeddings[5]
    merge(folder, spec, [source(tmp_path / "s", "b", late, 2)])
    with databases.client(folder) as client:
        handle = client.get_collection(databases.NAME, embedding_function=None)
        unique = np.concatenate([batch.embeddings[900:], late.embeddings[100:]])
        ids = batch.ids[900:] + late.ids[100:]
        answers = handle.query(query_embeddings=unique, n_results=1, include=[])["ids"]
        assert np.mean([answer == [record_id] for answer, record_id in zip(answers, ids, strict=True)]) > 0.99
        equal = handle.query(query_embeddings=batch.embeddings[5:6], n_results=20, include=["distances"])
        assert np.allclose(equal["distances"], 0, atol=1e-5)


def test_what_is_of_another_format_is_merged_through_chromadb(tmp_path: Path) -> None:
    folder, spec = tmp_path / "db", spec_of()
    sources = [source(tmp_path / "s", "a", records(1, list(range(50))), 1)]
    assert merged(folder, spec, sources).engine == "direct"
    databases.edit(folder, "ANALYZE")
    sources.append(source(tmp_path / "s", "b", records(2, list(range(40, 60))), 2))
    report = merged(folder, spec, sources[1:])
    assert report.engine == "api"
    assert "not those of chromadb" in report.obstacle
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert examine_in_child(copy, spec, sources, records=60, subject="merged").count == 60


def test_an_unknown_format_of_usearch_is_an_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedding_assets.chroma.usearch_file.format_is_known", lambda: False)
    report = merge(tmp_path / "db", spec_of(), [source(tmp_path / "s", "a", records(1, [1, 2, 3]), 1)])
    assert (report.engine, report.count) == ("api", 3)
    assert "usearch" in report.obstacle


def test_files_that_belong_to_somebody_else_are_not_changed(tmp_path: Path) -> None:
    folder, spec = tmp_path / "db", spec_of()
    merge(folder, spec, [source(tmp_path / "s", "a", records(1, list(range(20))), 1)])
    linked = shutil.copytree(folder, tmp_path / "linked", copy_function=os.link)
    with pytest.raises(ValueError, match="somebody else"):
        merge(linked, spec, [source(tmp_path / "s", "b", records(2, [30]), 2)])


def test_nothing_new_changes_no_byte(tmp_path: Path) -> None:
    folder, spec = tmp_path / "db", spec_of()
    one = source(tmp_path / "s", "a", records(1, list(range(20))), 1)
    merge(folder, spec, [one])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report = merge(folder, spec, [one])
    assert (report.kept, report.replaced, report.added) == (20, 0, 0)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def merged(folder: Path, spec: DatabaseSpec, sources: list[Source]) -> MergeReport:
    return merge_in_child(folder, spec, sources, records=100)


def elements(folder: Path) -> tuple[int, int]:
    """Elements of the index, and how many of them are deleted; also that labels and pickle fit."""
    (segment,) = [path.parent for path in folder.rglob("header.bin")]
    files = open_hnsw(segment, DIMENSION)
    assert read_index_metadata(segment / "index_metadata.pickle").total_elements_added == files.header.count
    return files.header.count, int(files.deleted.sum())
