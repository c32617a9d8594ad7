"""Reads some records of a database, chosen at random: what a look at a collection needs, whatever its size."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedding_assets.chroma.read import read_records, reading, records_at
from embedding_assets.chroma.replay import pending_changes
from embedding_assets.chroma.sqlite_reader import Collection, choose, read_collections
from embedding_assets.chroma.vectors import VectorReader
from embedding_assets.records import DELTA_KEY, RecordBatch

_AT_ONCE = 500  # values in one query


def read_sample(folder: Path, collection: str | None, most: int, seed: int) -> tuple[int, RecordBatch]:
    """How many records there are, and at most so many of them, as `read_records` gives them.

    Only ids are gone through one by one; vectors and metadata are read of the sample alone. A database whose log holds
    what its tables lack is read as a whole.

    Args:
        folder: the database; nothing is written there.
        collection: its name; may be left out where there is only one.
        most: records wanted; all of them, if there are no more.
        seed: equal seeds give equal samples of equal databases.

    Raises:
        UnknownFormatError, CorruptedError: as `read_records`.
    """
    rng = np.random.default_rng(seed)
    with reading(folder) as connection:
        chosen = choose(read_collections(connection), collection)
        changes = pending_changes(connection, chosen)
        if not (changes.removed or changes.changed or changes.added):
            return _sample_of_tables(connection, folder, chosen, most, rng)
    return draw(read_records(folder, collection), most, rng)


def _sample_of_tables(
    connection: sqlite3.Connection, folder: Path, collection: Collection, most: int, rng: np.random.Generator
) -> tuple[int, RecordBatch]:
    rows = connection.execute(
        "SELECT id FROM embeddings NOT INDEXED WHERE segment_id = ?", (collection.metadata_segment,)
    )
    offsets = np.fromiter((row[0] for row in rows), dtype=np.int64)
    wanted = np.sort(rng.choice(offsets, size=min(most, len(offsets)), replace=False)).tolist()
    return len(offsets), _records(connection, folder, collection, wanted)


def read_brought(folder: Path, collection: str | None, deltas: Sequence[str], most: int, seed: int) -> RecordBatch:
    """At most so many of the records that these deltas brought, chosen at random; raises as `read_sample`."""
    with reading(folder) as connection:
        chosen = choose(read_collections(connection), collection)
        query = (
            "SELECT m.id FROM embedding_metadata m JOIN embeddings e ON e.id = m.id "
            "WHERE e.segment_id = ? AND m.key = ? AND m.string_value IN"
        )
        found = _in_turn(connection, query, list(deltas), [chosen.metadata_segment, DELTA_KEY])
        offsets = np.asarray([row[0] for row in found], dtype=np.int64)
        rng = np.random.default_rng(seed)
        wanted = np.sort(rng.choice(offsets, size=min(most, len(offsets)), replace=False)).tolist()
        return _records(connection, folder, chosen, wanted)


def _records(connection: sqlite3.Connection, folder: Path, collection: Collection, wanted: list[int]) -> RecordBatch:
    """The records with these ascending offset ids."""
    ids = dict(_in_turn(connection, "SELECT id, embedding_id FROM embeddings WHERE id IN", wanted))
    found = {offset: ids[offset] for offset in wanted}
    return records_at(connection, VectorReader(connection, folder, collection), found)


def _in_turn(
    connection: sqlite3.Connection, query: str, values: Sequence[Any], before: Sequence[Any] = ()
) -> list[Any]:
    """The rows of a query that ends with IN, for some of the values at a time."""
    found: list[Any] = []
    for start in range(0, len(values), _AT_ONCE):
        some = values[start : start + _AT_ONCE]
        found += connection.execute(f"{query} ({','.join('?' * len(some))})", [*before, *some]).fetchall()
    return found


def draw(batches: Iterable[RecordBatch], most: int, rng: np.random.Generator) -> tuple[int, RecordBatch]:
    """The same of all records: each draws a lot, and the lowest are kept."""
    count = 0
    kept: RecordBatch | None = None
    lots = np.empty(0)
    for batch in batches:
        count += len(batch)
        lots = np.concatenate([lots, rng.random(len(batch))])
        together = batch if kept is None else RecordBatch.joined([kept, batch])
        lowest = np.sort(np.argsort(lots)[:most])
        kept, lots = together.take(lowest.tolist()), lots[lowest]
    return count, kept or RecordBatch([], np.empty((0, 0), np.float32), [], [])


def to_json(count: int, sample: RecordBatch) -> dict[str, Any]:
    """A count and a sample as plain JSON values, as a child process answers them."""
    vectors = np.ascontiguousarray(sample.embeddings, dtype="<f4")
    return {
        "count": count,
        "ids": sample.ids,
        "vectors": base64.b64encode(vectors.tobytes()).decode(),
        "dimension": vectors.shape[1],
        "documents": sample.documents,
        "metadatas": sample.metadatas,
    }


def from_json(raw: dict[str, Any]) -> tuple[int, RecordBatch]:
    """The inverse of `to_json`."""
    vectors = np.frombuffer(base64.b64decode(raw["vectors"]), dtype="<f4").reshape(len(raw["ids"]), raw["dimension"])
    return raw["count"], RecordBatch(raw["ids"], vectors, raw["documents"], raw["metadatas"])
