"""Shows that a database holds what it was made from, bit for bit, outside of what was touched, without decoding it.

A merge copies its base and changes the records of some ids. Of all others, the very rows of SQLite and the very numbers
of the index have to be those of the base; that is compared by SQLite and numpy at the speed of memory. A digest being a
sum, that of the whole follows from the base's own and from the touched records, which alone have to be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection as Ids
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from embedding_assets.chroma.log_reader import read_log
from embedding_assets.chroma.read import offsets_of
from embedding_assets.chroma.sqlite_reader import SQLITE_FILE, Collection
from embedding_assets.chroma.vectors import VectorReader, as_slice
from embedding_assets.records import slices

_ROWS = 4096  # vectors compared together: 25 MB of each at 1,536 dimensions
# What a record is made of, table by table: how two rows are found to be the same one, and what must be the same in it.
_TABLES = {
    "embeddings": ("id", "id", ("id", "segment_id", "embedding_id", "seq_id")),
    "embedding_metadata": (
        "rowid",
        "id",
        ("id", "key", "string_value", "int_value", "float_value", "bool_value"),
    ),
}
_TABLES["embedding_metadata_array"] = _TABLES["embedding_metadata"]


def is_applied(connection: sqlite3.Connection, collection: Collection) -> bool:
    """Whether all that a collection holds is in its tables and its index, and nothing in the log alone."""
    return (
        collection.metadata_seq == collection.vector_seq
        and next(read_log(connection, collection, collection.metadata_seq), None) is None
    )


def carried_over(
    connection: sqlite3.Connection,
    collection: Collection,
    vectors: VectorReader,
    base: Path,
    base_vectors: VectorReader,
    touched: Ids[str],
) -> bool:
    """Whether both databases hold the same records, outside of these ids.

    Both are of the known format, hold one collection, and `is_applied` of both.

    Args:
        connection, collection, vectors: of the database.
        base: the folder of the other.
        base_vectors: its vectors.
        touched: the ids that are not looked at.

    Raises:
        ValueError, sqlite3.Error: files that contradict themselves.
    """
    connection.execute("ATTACH ? AS base", (f"{(base / SQLITE_FILE).absolute().as_uri()}?mode=ro&immutable=1",))
    try:
        count = _rows_alike(connection, collection, touched)
    finally:
        connection.execute("DETACH base")
    if count is None:
        return False
    ids = [record_id for record_id in base_vectors.places.labels if record_id not in touched]
    if len(ids) != count or any(record_id not in vectors.places.labels for record_id in ids):
        return False
    return _vectors_alike(base_vectors, vectors, ids)


def _rows_alike(connection: sqlite3.Connection, collection: Collection, touched: Ids[str]) -> int | None:
    """How many records the tables of both hold alike, outside of these ids; None where they differ there."""
    offsets = {
        schema: orjson.dumps(list(offsets_of(connection, collection, touched, schema))).decode()
        for schema in ("main", "base")
    }
    count = None
    for table, (same, record, columns) in _TABLES.items():
        ours, theirs = (", ".join(f"{side}.{column}" for column in columns) for side in "nb")
        (alike,) = connection.execute(
            f"SELECT count(*) FROM main.{table} n CROSS JOIN base.{table} b ON b.{same} = n.{same} "  # noqa: S608 - known names
            f"WHERE ({ours}) IS ({theirs}) AND n.{record} NOT IN (SELECT value FROM json_each(?))",
            (offsets["main"],),
        ).fetchone()
        for schema, these in offsets.items():
            (all_others,) = connection.execute(
                f"SELECT count(*) FROM {schema}.{table} WHERE {record} NOT IN (SELECT value FROM json_each(?))",  # noqa: S608
                (these,),
            ).fetchone()
            if all_others != alike:
                return None
        count = alike if count is None else count
    return count


def _vectors_alike(old: VectorReader, new: VectorReader, ids: list[str]) -> bool:
    """Whether the indexes hold the same of these ids, which are in both: units, and for cosine their norms."""
    before, after = old.elements(ids), new.elements(ids)
    order = np.argsort(before)
    before, after = before[order], after[order]
    for some in slices(len(ids), _ROWS):
        ours, theirs = as_slice(after[some]), as_slice(before[some])
        if not np.array_equal(_bits(new.files.vectors[ours]), _bits(old.files.vectors[theirs])):
            return False
        # Of l2 and ip the norms are memory that was never set.
        if new.cosine and not np.array_equal(_bits(new.files.norms[ours]), _bits(old.files.norms[theirs])):
            return False
    return True


def _bits(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    return numbers.view(np.uint32)
