"""Writes records as rows of the write-ahead log alone: a whole database, which ChromaDB completes when it opens it.

That is what a delta is: read once or twice, directly, and never searched. At every open chromadb 1.5.9 applies the
rows that its segments have not seen, here all of them, and so builds records, full text and index by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from embedding_assets.chroma.log_reader import ADD
from embedding_assets.chroma.sqlite_reader import Collection, UnknownFormatError
from embedding_assets.chroma.sqlite_writer import (
    LOG_CACHE_KIB,
    last_sequence_id,
    learn_settings,
    log_text,
    raw_vectors,
    writing,
)
from embedding_assets.floats import comes_back
from embedding_assets.records import RecordBatch

_INSERT = (
    "INSERT INTO embeddings_queue (seq_id, operation, topic, id, vector, encoding, metadata) "
    "VALUES (?, ?, ?, ?, ?, 'FLOAT32', ?)"
)


def write_log(folder: Path, collection: str, batches: Iterable[RecordBatch]) -> int:
    """Write records behind the end of the log, in one transaction; returns how many.

    Args:
        folder: a database of the caller's own, made by `api.create`; to be thrown away where this fails.
        collection: its only collection.
        batches: the records; an id may stand in them only once, and not in the database, for ChromaDB passes over
            the second without a word.

    Raises:
        UnknownFormatError: not a database that may be written directly, or a number is one that the log would change.
        ValueError, sqlite3.Error: what was to be written cannot be.
    """
    written = 0
    with writing(folder, collection, LOG_CACHE_KIB) as (connection, chosen):
        first = last_sequence_id(connection)
        for batch in batches:
            _require_kept(batch)
            learn_settings(connection, chosen, batch)
            append(connection, chosen, batch, first + written)
            written += len(batch)
    return written


def _require_kept(batch: RecordBatch) -> None:
    """Raise UnknownFormatError for a number that ChromaDB would read otherwise from the log's JSON."""
    for record_id, metadata in zip(batch.ids, batch.metadatas, strict=True):
        for key, value in metadata.items():
            for one in value if type(value) is list else (value,):
                if type(one) is float and not comes_back(one):
                    what = f"metadata {key!r} of {record_id!r}"
                    raise UnknownFormatError(what, f"is {one!r}, which its log would change", "It is written otherwise")


def append(
    connection: sqlite3.Connection, collection: Collection, batch: RecordBatch, after: int, operation: int = ADD
) -> None:
    """Write one row per record, with the sequence ids behind `after`."""
    connection.executemany(_INSERT, _rows(collection, batch, after, operation))


def _rows(
    collection: Collection, batch: RecordBatch, after: int, operation: int
) -> Iterator[tuple[int, int, str, str, memoryview, str]]:
    topic, vectors = collection.topic, raw_vectors(batch)
    width = 4 * batch.embeddings.shape[1]
    for row, record_id in enumerate(batch.ids):
        vector = vectors[row * width : (row + 1) * width]
        text = log_text(batch.documents[row], batch.metadatas[row])
        yield after + row + 1, operation, topic, record_id, vector, text
