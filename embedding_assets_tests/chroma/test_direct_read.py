"""The direct reader gives, to the bit, what ChromaDB's own get() gives, in every state a database can be in."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedding_assets.chroma.read import is_readable, read_ids, read_origins, read_records
from embedding_assets.chroma.sqlite_reader import UnknownFormatError, connect, read_collections
from embedding_assets.chroma.structure import check_structure
from embedding_assets.chroma.vectors import as_cosine_gives
from embedding_assets.errors import CorruptedError
from embedding_assets.records import Origin
from embedding_assets_tests.chroma.databases import (
    NAME,
    Setup,
    api_records,
    apply,
    assert_equal,
    client,
    create,
    edit,
    forget_metadata,
    joined,
    new_collection,
    random_operations,
)


def vector(rng: np.random.Generator, n: int, dimension: int) -> Any:
    return rng.normal(size=(n, dimension)).astype(np.float32)


def segments_state(folder: Path) -> tuple[int, int | None]:
    connection = connect(folder)
    try:
        [collection] = read_collections(connection)
        return collection.metadata_seq, collection.vector_seq
    finally:
        connection.close()


@settings(max_examples=35, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    space=st.sampled_from(["cosine", "l2", "ip"]),
    dimension=st.integers(1, 40),
    threshold=st.sampled_from([2, 3, 7, 20, 1000]),
    neighbors=st.sampled_from([2, 4, 16]),
    sessions=st.lists(st.integers(0, 7), min_size=1, max_size=3),
    ids=st.sampled_from([5, 40]),
    rows=st.sampled_from([1, 7, 5000]),
)
def test_random_histories_read_as_the_api_reads_them_and_are_sound(
    seed: int, space: str, dimension: int, threshold: int, neighbors: int, sessions: list[int], ids: int, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    scratch = Path(tempfile.mkdtemp())
    try:
        folder = scratch / "data base?#%"  # a path that needs quoting in SQLite's URI
        create(folder, Setup(space, dimension, threshold, neighbors))
        for calls in sessions:
            with client(folder) as opened:
                apply(
                    opened.get_collection(NAME, embedding_function=None),
                    random_operations(rng, dimension, calls, 12, ids),
                )
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        wanted = api_records(folder, scratch)
        assert_equal(joined(read_records(folder, rows=rows)), wanted)
        assert read_ids(folder) == wanted.ids
        structure = check_structure(folder)
        assert structure.problems == ()
        assert structure.known_format
        assert structure.records == {NAME: len(wanted)}
        assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        if threshold == 1000:  # nothing persisted, so the log is complete: as if only the log had been written
            forget_metadata(folder)
            wanted = api_records(folder, scratch)
            assert_equal(joined(read_records(folder, rows=rows)), wanted)
            assert check_structure(folder).problems == ()
    finally:
        shutil.rmtree(scratch)


def test_an_empty_collection_has_no_records(tmp_path: Path) -> None:
    create(tmp_path / "db", Setup())
    assert list(read_records(tmp_path / "db")) == []
    assert check_structure(tmp_path / "db").problems == ()


@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
@pytest.mark.parametrize("tail", ["none", "added", "updated", "upserted", "deleted", "added again", "all deleted"])
def test_the_log_behind_the_index_is_seen(tmp_path: Path, space: str, tail: str) -> None:
    rng = np.random.default_rng(7)
    folder = tmp_path / "db"
    create(folder, Setup(space, 17, 60))
    ids = [f"r{i}" for i in range(60)]
    with client(folder) as opened:
        collection = opened.get_collection(NAME, embedding_function=None)
        collection.add(ids=ids, embeddings=vector(rng, 60, 17), documents=ids, metadatas=[{"n": i} for i in range(60)])
        some = ids[10:20]
        if tail == "added":
            collection.add(ids=["n1", "r3"], embeddings=vector(rng, 2, 17), documents=["new", "ignored"])
        elif tail == "updated":
            collection.update(ids=some, embeddings=vector(rng, 10, 17), metadatas=[{"n": None, "f": 0.5}] * 10)
        elif tail == "upserted":
            collection.upsert(ids=[*some, "n2"], embeddings=vector(rng, 11, 17), documents=["other"] * 11)
        elif tail == "deleted":
            collection.delete(ids=some)
        elif tail == "added again":
            collection.delete(ids=some)
            collection.add(ids=some[::-1], embeddings=vector(rng, 10, 17), documents=some)
        elif tail == "all deleted":
            collection.delete(ids=ids[:59])
            collection.delete(ids=ids[59:])
    metadata_seq, vector_seq = segments_state(folder)
    if tail not in ("none", "all deleted"):
        assert vector_seq is not None
        assert metadata_seq > vector_seq
    assert_equal(joined(read_records(folder)), api_records(folder, tmp_path))
    assert check_structure(folder).problems == ()


def test_the_log_is_seen_where_neither_segment_has_applied_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    folder = tmp_path / "db"
    create(folder, Setup("cosine", 9, 30))
    with client(folder) as opened:
        collection = opened.get_collection(NAME, embedding_function=None)
        apply(collection, random_operations(rng, 9, 12, 12, 30))
    # Rows as a crash leaves them between the push to the log and its application.
    connection = connect(folder)
    [chosen] = read_collections(connection)
    connection.close()
    raw = vector(rng, 3, 9)
    rows = [
        (2, "id-1", raw[0], '{"k0":1.2345678901234567e-7,"k1":123456789.12345678901,"chroma:document":"z \\u00e4"}'),
        (0, "brand new", raw[1], '{"big":-4611686018427387904,"e":1E+22,"b":true}'),
        (1, "id-1", None, '{"k0":null,"k2":1e-310}'),
        (1, "not there", raw[2], "{}"),
        (3, "id-2", None, None),
        (0, "id-2", raw[2], '{"chroma:document":""}'),
    ]
    for operation, record_id, values, metadata in rows:
        blob = "NULL" if values is None else f"x'{values.tobytes().hex()}'"
        encoding = "NULL" if values is None else "'FLOAT32'"
        text = "NULL" if metadata is None else "'" + metadata + "'"
        edit(
            folder,
            "INSERT INTO embeddings_queue (operation, topic, id, vector, encoding, metadata) "
            f"VALUES ({operation}, '{chosen.topic}', '{record_id}', {blob}, {encoding}, {text})",
        )
    assert_equal(joined(read_records(folder, rows=4)), api_records(folder, tmp_path))
    assert check_structure(folder).problems == ()


@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 5, 8, 16, 31, 64, 257, 1536])
def test_cosine_vectors_come_back_as_unit_vector_times_norm_to_the_bit(tmp_path: Path, dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    raw = (rng.normal(size=(60, dimension)) * 10.0 ** rng.integers(-12, 12, size=(60, 1))).astype(np.float32)
    raw[0] = 0
    folder = tmp_path / "db"
    create(folder, Setup("cosine", dimension))
    with client(folder) as opened:
        collection = opened.get_collection(NAME, embedding_function=None)
        collection.add(ids=[str(i) for i in range(60)], embeddings=raw)
        given_back = np.asarray(collection.get(include=["embeddings"])["embeddings"]).astype(np.float32)
    assert as_cosine_gives(raw).tobytes() == given_back.tobytes()


def test_one_of_several_collections_is_read_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    folder = tmp_path / "db"
    create(folder, Setup("l2", 5, 10))
    with client(folder) as opened:
        collections = [new_collection(opened, Setup("ip", 3, 10), f"other-{i}") for i in range(3)]
        first = opened.get_collection(NAME, embedding_function=None)
        for _ in range(3):
            apply(first, random_operations(rng, 5, 2, 9, 20))
            for collection in collections:
                apply(collection, random_operations(rng, 3, 2, 9, 20))
        opened.delete_collection("other-1")
    for name in (NAME, "other-0", "other-2"):
        assert_equal(joined(read_records(folder, name)), api_records(folder, tmp_path, name))
    assert check_structure(folder).problems == ()
    for name in (None, "other-1"):
        with pytest.raises(CorruptedError, match="is not there"):
            list(read_records(folder, name))


def test_origins_are_read_from_records_and_log(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    create(folder, Setup("l2", 2))
    with client(folder) as opened:
        collection = opened.get_collection(NAME, embedding_function=None)
        reserved = {"ea:batch": "batch_1", "ea:submitted": 1_760_000_000, "ea:delta": "d1", "line": 4}
        collection.add(ids=["a", "b"], embeddings=[[1, 2], [3, 4]], metadatas=[reserved, {"line": 1}])
    wanted = [(["a", "b"], [Origin(1_760_000_000, "batch_1", "d1"), Origin(0, "", "")])]
    assert list(read_origins(folder)) == wanted
    forget_metadata(folder)
    assert list(read_origins(folder)) == wanted


def test_a_record_without_document_or_metadata_reads_as_empty(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    create(folder, Setup("l2", 2))
    with client(folder) as opened:
        opened.get_collection(NAME, embedding_function=None).add(ids=["a"], embeddings=[[1, 2]])
    [batch] = read_records(folder)
    assert (batch.documents, batch.metadatas) == ([""], [{}])


@pytest.mark.parametrize("only_log", [False, True])
def test_list_metadata_reads_as_the_api_reads_it(tmp_path: Path, only_log: bool) -> None:
    folder = tmp_path / "db"
    create(folder, Setup("l2", 2))
    lists: list[Any] = [{"tags": ["x", "y", "x"]}, {"n": [1, 2], "f": [0.1, 1.0], "b": [True, False], "one": 1}]
    with client(folder) as opened:
        handle = opened.get_collection(NAME, embedding_function=None)
        handle.add(ids=["a", "b"], embeddings=[[1, 2], [3, 4]], metadatas=lists)
        handle.update(ids=["a"], metadatas=[{"tags": ["z"]}])
    if only_log:
        forget_metadata(folder)
        edit(folder, "DELETE FROM embedding_metadata_array")
    assert check_structure(folder).problems == ()
    assert is_readable(folder)
    read = joined(read_records(folder))
    assert read.metadatas == [{"tags": ["z"]}, lists[1]]
    assert_equal(read, api_records(folder, tmp_path))


def test_another_format_is_left_to_the_api(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    create(folder, Setup("l2", 2))
    edit(folder, "ANALYZE")
    with pytest.raises(UnknownFormatError, match="not those of chromadb"):
        list(read_records(folder))
    assert not is_readable(folder)
    structure = check_structure(folder)
    assert structure.problems == ()
    assert not structure.known_format


def test_a_journal_left_behind_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    create(folder, Setup("l2", 2))
    (folder / "chroma.sqlite3-journal").write_bytes(b"half a transaction")
    with pytest.raises(CorruptedError, match="journal was left behind"):
        read_ids(folder)
    [problem] = check_structure(folder).problems
    assert "journal was left behind" in problem


@pytest.mark.parametrize("shape", [(1, 1), (1, 1536), (2, 1536), (65, 384), (130, 7)])
def test_norms_are_sums_from_the_first_to_the_last_dimension_however_many_vectors_there_are(
    shape: tuple[int, int],
) -> None:
    raw = vector(np.random.default_rng(3), *shape) * np.float32(3)
    total = np.zeros(len(raw), dtype=np.float32)
    for column in (raw * raw).T:
        total = total + column
    norms = np.sqrt(total)
    wanted = (raw * (np.float32(1) / (norms + np.float32(1e-30)))[:, None]) * norms[:, None]
    assert as_cosine_gives(raw).tobytes() == wanted.tobytes()
