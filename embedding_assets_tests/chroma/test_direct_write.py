"""What the direct writers leave in every table is what ChromaDB's own API leaves for the same records."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedding_assets.chroma.log_writer import write_log
from embedding_assets.chroma.read import read_records
from embedding_assets.chroma.record_writer import changing
from embedding_assets.chroma.sqlite_reader import UnknownFormatError
from embedding_assets.chroma.sqlite_writer import writable
from embedding_assets.chroma.structure import check_structure
from embedding_assets.chroma.vectors import as_cosine_gives
from embedding_assets.records import RecordBatch, clean_metadata
from embedding_assets_tests.chroma.databases import (
    NAME,
    Setup,
    api_records,
    assert_equal,
    client,
    create,
    edit,
    joined,
    new_collection,
)

DIMENSION = 6

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
ids = st.lists(st.text(min_size=1, max_size=6).filter(lambda i: "\x00" not in i and i.strip()), max_size=9, unique=True)
# ChromaDB's JSON parser gives back exactly what has up to 15 digits and no great exponent.
numbers = st.one_of(st.integers(-(10**14), 10**14).map(lambda n: n / 1000), st.sampled_from([0.0, -0.0, 1e22, 1e-7]))
whole = st.integers(-(2**63), 2**63 - 1)
lists = st.one_of(*(st.lists(one, min_size=1, max_size=3) for one in (texts, whole, numbers, st.booleans())))
values = st.one_of(texts, whole, numbers, st.booleans(), lists)
keys = st.sampled_from(["shop", "line", "price", "ea:batch", "k\u00e4se", "a.b"])


@st.composite
def record_batches(draw: st.DrawFn) -> RecordBatch:
    """Records with every kind of id, text and metadata that `records` lets through."""
    some = draw(ids)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    vectors = (rng.standard_normal((len(some), DIMENSION)) * 10.0 ** rng.integers(-3, 3)).astype(np.float32)
    metadatas = [
        {key: clean_metadata({"value": value})["value"] for key, value in draw(st.dictionaries(keys, values)).items()}
        for _ in some
    ]
    return RecordBatch(some, vectors, [draw(texts) for _ in some], metadatas)


@pytest.fixture
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def api_add(handle: Any, batch: RecordBatch) -> None:
    if len(batch):
        metadatas: Any = [metadata or None for metadata in batch.metadatas]
        handle.add(ids=batch.ids, embeddings=batch.embeddings, documents=batch.documents, metadatas=metadatas)


def tables(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    """The rows of every table that has a meaning, without names that ChromaDB draws at random and without times."""
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as db:
        names = {row[0]: f"<{row[1]}>" for row in db.execute("SELECT id, scope FROM segments")}
        names |= {row[0]: "<collection>" for row in db.execute("SELECT id FROM collections")}
        found = {}
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            # The full-text index's own tables depend on how the rows were grouped: what it says is compared below.
            # And `acquire_write` gets a row at every open.
            if table.startswith("embedding_fulltext_search_") or table in ("acquire_write", *without):
                continue
            rowid = "rowid, " if table == "embedding_fulltext_search" else ""
            cursor = db.execute(f"SELECT {rowid}* FROM {table}")
            columns = [column[0] for column in cursor.description]
            rows = [
                {c: plain(c, v, names) for c, v in zip(columns, row, strict=True) if c != "created_at"}
                for row in cursor
            ]
            found[table] = sorted(rows, key=repr)
        db.execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, embedding_fulltext_search, row)")
        found["terms"] = db.execute("SELECT term, doc, cnt FROM temp.terms ORDER BY term").fetchall()
    return found


def plain(column: str, value: Any, names: dict[str, str]) -> Any:
    """A value without random names, JSON parsed, and with its type: 1 == 1.0 == True."""
    if column in ("schema_str", "metadata") and value is not None:
        return json.dumps(json.loads(value), sort_keys=True)
    if isinstance(value, str):
        for name, stand_in in names.items():
            value = value.replace(name, stand_in)
    return (type(value).__name__, value)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(batches=st.lists(record_batches(), min_size=1, max_size=3), space=st.sampled_from(["cosine", "l2", "ip"]))
def test_the_log_is_what_the_api_writes_and_is_completed_by_chromadb(batches: list[RecordBatch], space: str) -> None:
    batches = without_repeats(batches)
    scratch = Path(tempfile.mkdtemp())
    try:
        ours, theirs = scratch / "ours", scratch / "theirs"
        for folder in (ours, theirs):
            create(folder, Setup(space, DIMENSION))
        assert write_log(ours, NAME, batches) == sum(map(len, batches))
        with client(theirs) as opened:
            for batch in batches:
                api_add(opened.get_collection(NAME, embedding_function=None), batch)
        log = ("collections", "embeddings_queue")
        assert {table: tables(ours)[table] for table in log} == {table: tables(theirs)[table] for table in log}
        assert check_structure(ours).problems == ()
        assert_equal(api_records(ours, scratch), api_records(theirs, scratch))
        with client(ours) as opened:
            assert opened.get_collection(NAME, embedding_function=None).count() == sum(map(len, batches))
        assert tables(ours) == tables(theirs)
        with client(ours) as opened:  # sequence ids go on behind ours: nothing is dropped
            handle = opened.get_collection(NAME, embedding_function=None)
            handle.add(ids=["one more\x1f"], embeddings=np.ones((1, DIMENSION)))
            assert handle.count() == sum(map(len, batches)) + 1
    finally:
        shutil.rmtree(scratch)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    batches=st.lists(record_batches(), min_size=1, max_size=3),
    removals=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=5), min_size=3, max_size=3),
)
def test_records_are_what_the_api_leaves_once_everything_is_written(
    batches: list[RecordBatch], removals: list[list[int]]
) -> None:
    batches = without_repeats(batches)
    scratch = Path(tempfile.mkdtemp())
    try:
        ours, theirs = scratch / "ours", scratch / "theirs"
        for folder in (ours, theirs):
            create(folder, Setup("l2", DIMENSION))
        with client(theirs) as opened, changing(ours, NAME) as writer:
            handle = opened.get_collection(NAME, embedding_function=None)
            there: list[str] = []
            for batch, picks in zip(batches, removals, strict=False):
                api_add(handle, batch)
                writer.add(batch)
                there += batch.ids
                gone = sorted({there[pick] for pick in picks if pick < len(there)})
                if gone:
                    handle.delete(ids=gone)
                    assert writer.remove(gone) == len(gone)
                    there = [i for i in there if i not in gone]
        log = ("embeddings_queue", "max_seq_id")
        assert tables(ours, without=log) == tables(theirs, without=log)
        assert (states(ours) == []) is (states(theirs) == [])
        if states(ours):
            [last] = set(states(ours))
            assert last == max(states(theirs))
            assert newest_log_row(ours) == newest_log_row(theirs)
    finally:
        shutil.rmtree(scratch)


def without_repeats(batches: list[RecordBatch]) -> list[RecordBatch]:
    seen: set[str] = set()
    kept = []
    for batch in batches:
        kept.append(batch.take([row for row, record_id in enumerate(batch.ids) if record_id not in seen]))
        seen.update(batch.ids)
    return kept


def states(folder: Path) -> list[int]:
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as db:
        return [seq for (seq,) in db.execute("SELECT seq_id FROM max_seq_id")]


def newest_log_row(folder: Path) -> Any:
    return max(tables(folder)["embeddings_queue"], key=lambda row: row["seq_id"][1])


def small(count: int = 4, width: int = DIMENSION, first: int = 0, **metadata: Any) -> RecordBatch:
    names = [f"r{i}" for i in range(first, first + count)]
    vectors = np.random.default_rng(first).standard_normal((count, width)).astype(np.float32)
    return RecordBatch(names, vectors, [f"text {name}" for name in names], [dict(metadata) for _ in names])


def test_what_was_logged_reads_directly_as_the_api_reads_it(scratch: Path) -> None:
    create(scratch / "db", Setup("cosine", DIMENSION))
    batch = small(5, shop="Gr\u00fcn")
    write_log(scratch / "db", NAME, [batch])
    read = joined(read_records(scratch / "db"))
    assert_equal(read, api_records(scratch / "db", scratch))
    assert read.ids == batch.ids
    assert np.array_equal(read.embeddings, as_cosine_gives(batch.embeddings))


def test_a_database_of_another_version_or_with_two_collections_is_not_written_directly(scratch: Path) -> None:
    create(scratch / "known", Setup())
    assert writable(scratch / "known")
    create(scratch / "other", Setup())
    edit(scratch / "other", "ANALYZE")
    create(scratch / "two", Setup())
    with client(scratch / "two") as opened:
        new_collection(opened, Setup(), "another")
    for name in ("other", "two"):
        assert not writable(scratch / name)
        with pytest.raises(UnknownFormatError):
            write_log(scratch / name, NAME, [small()])


def test_a_database_whose_log_waits_for_its_index_is_not_changed_directly(scratch: Path) -> None:
    create(scratch / "db", Setup("l2", DIMENSION))
    write_log(scratch / "db", NAME, [small()])
    with pytest.raises(UnknownFormatError, match="not applied"), changing(scratch / "db", NAME):
        pass


@pytest.mark.parametrize(
    ("batches", "reason"),
    [
        ([small(), small(width=5, first=9)], "5 dimensions for a collection of 6"),
        ([RecordBatch(["a"], np.full((1, 6), np.nan, np.float32), [""], [{}])], "not finite"),
        ([small(**{"#document": "x"})], "takes no metadata key '#document'"),
    ],
)
def test_what_chromadb_would_refuse_is_refused(scratch: Path, batches: list[RecordBatch], reason: str) -> None:
    create(scratch / "db", Setup("l2", DIMENSION))
    with pytest.raises(ValueError, match=reason):
        write_log(scratch / "db", NAME, batches)


def test_a_record_cannot_be_added_twice(scratch: Path) -> None:
    create(scratch / "db", Setup("l2", DIMENSION))
    with changing(scratch / "db", NAME) as writer:
        writer.add(small())
        with pytest.raises(sqlite3.IntegrityError):
            writer.add(small(1))
