"""Reads a log that has one row for each record and was never applied, which is what a delta is, in one pass."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np

from embedding_assets.chroma.log_reader import ADD, UPSERT, parse_metadata
from embedding_assets.chroma.sqlite_reader import Collection, require_texts
from embedding_assets.records import Metadata, Vectors


def count_plain(connection: sqlite3.Connection, collection: Collection) -> int | None:
    """How many records such a log holds; None where the collection has anything else."""
    if collection.metadata_seq or collection.vector_seq is not None:
        return None
    stored = connection.execute("SELECT 1 FROM embeddings WHERE segment_id = ? LIMIT 1", (collection.metadata_segment,))
    if stored.fetchone():
        return None
    rows, ids, additions = connection.execute(
        "SELECT count(*), count(DISTINCT id), total(operation IN (?, ?) AND vector IS NOT NULL) "
        "FROM embeddings_queue WHERE topic = ?",
        (ADD, UPSERT, collection.topic),
    ).fetchone()
    return int(rows) if rows == ids == additions else None


def plain_pages(
    connection: sqlite3.Connection, collection: Collection, rows: int, keys: tuple[str, ...] | None
) -> Iterator[tuple[list[str], list[Metadata]]]:
    """Ids and metadata (these keys, or all; the document is among them), in the order of `collection.get`."""
    found = _rows(connection, collection, "NULL, NULL, " + ("NULL" if keys == () else "metadata"))
    while page := found.fetchmany(rows):
        if keys == ():
            yield _ids(page), [{} for _ in page]
            continue
        metadatas = [_metadata(seq, text) for seq, _, _, _, text in page]
        if keys is not None:
            metadatas = [{key: value for key, value in values.items() if key in keys} for values in metadatas]
        yield _ids(page), metadatas


def plain_records(
    connection: sqlite3.Connection, collection: Collection, rows: int
) -> Iterator[tuple[list[str], list[Metadata], Vectors]]:
    """As `plain_pages`, with the vectors as they were written, shape (n, dimension), float32."""
    size = 4 * (collection.dimension or 0)
    found = _rows(connection, collection, "vector, encoding, metadata")
    while page := found.fetchmany(rows):
        for seq, _, vector, encoding, _ in page:
            if encoding != "FLOAT32" or type(vector) is not bytes or len(vector) != size:
                raise ValueError(f"log row {seq} holds no float32 vector of {size // 4} dimensions")
        vectors = np.frombuffer(b"".join([row[2] for row in page]), dtype="<f4").reshape(len(page), -1)
        yield _ids(page), [_metadata(seq, text) for seq, _, _, _, text in page], vectors.astype(np.float32, copy=False)


def _rows(connection: sqlite3.Connection, collection: Collection, columns: str) -> sqlite3.Cursor:
    query = f"SELECT seq_id, id, {columns} FROM embeddings_queue WHERE topic = ? ORDER BY seq_id"  # noqa: S608 - no values
    return connection.execute(query, (collection.topic,))


def _ids(page: list[tuple[object, ...]]) -> list[str]:
    ids = []
    for row in page:
        record_id = row[1]
        if type(record_id) is not str or not record_id.isascii():
            require_texts(record_id)
        ids.append(record_id)
    return ids  # type: ignore[return-value]


def _metadata(seq: int, text: object) -> Metadata:
    return {key: value for key, value in parse_metadata(seq, text).items() if value is not None}
