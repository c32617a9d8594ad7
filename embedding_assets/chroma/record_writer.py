"""Writes records as ChromaDB leaves them once its log was applied and its index written: everything but the index.

That is what a snapshot is. Sequence ids are counted as if every change had gone through the log; of the log itself only
the last row stays, as ChromaDB leaves it. (Were it empty, row numbers would start again, and writes would be dropped
without a word.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from embedding_assets.chroma.log_reader import ADD, DELETE
from embedding_assets.chroma.log_writer import append
from embedding_assets.chroma.sqlite_reader import DOCUMENT_KEY, Collection, UnknownFormatError
from embedding_assets.chroma.sqlite_writer import last_sequence_id, learn_settings, writing
from embedding_assets.records import RecordBatch, Scalar, slices

_AT_ONCE = 500  # ids in one statement
_Row = tuple[int, str, "str | None", "int | None", "float | None", "int | None"]


class RecordWriter:
    """Changes the records of one database; made by `changing`.

    Attributes:
        collection: as it stood before.
        sequence_id: of the last change; the index has to be written up to there.
    """

    def __init__(self, connection: sqlite3.Connection, collection: Collection) -> None:
        self.collection = collection
        self._connection = connection
        self.sequence_id = last_sequence_id(connection)
        (self._offset,) = connection.execute("SELECT ifnull(max(id), 0) FROM embeddings").fetchone()
        self._last: RecordBatch | str | None = None  # what the last change was about: a record, or a deleted id

    def add(self, batch: RecordBatch) -> None:
        """Add records that are not there.

        Raises:
            sqlite3.IntegrityError: one of them is.
            ValueError: a vector is of another dimension or not finite, or a metadata key cannot be.
        """
        if not len(batch):
            return
        learn_settings(self._connection, self.collection, batch)
        segment, offset, seq = self.collection.metadata_segment, self._offset, self.sequence_id
        run = self._connection.executemany
        run(
            "INSERT INTO embeddings (id, segment_id, embedding_id, seq_id) VALUES (?, ?, ?, ?)",
            ((offset + i, segment, record_id, seq + i) for i, record_id in enumerate(batch.ids, start=1)),
        )
        run(
            "INSERT INTO embedding_metadata (id, key, string_value, int_value, float_value, bool_value) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            _metadata_rows(batch, offset),
        )
        run(
            "INSERT INTO embedding_metadata_array (id, key, string_value, int_value, float_value, bool_value) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            _list_rows(batch, offset),
        )
        run(
            "INSERT INTO embedding_fulltext_search (rowid, string_value) VALUES (?, ?)",
            enumerate(batch.documents, start=offset + 1),
        )
        self._offset += len(batch)
        self.sequence_id += len(batch)
        self._last = batch.take([len(batch) - 1])

    def remove(self, ids: Sequence[str]) -> int:
        """Remove records; returns how many of these were there. Each counts as one change, there or not."""
        removed = 0
        for some in slices(len(ids), _AT_ONCE):
            removed += self._remove(list(ids[some]))
        if ids:
            self.sequence_id += len(ids)
            self._last = ids[-1]
            # Numbers are given out again where the last records go, as ChromaDB does.
            (self._offset,) = self._connection.execute("SELECT ifnull(max(id), 0) FROM embeddings").fetchone()
        return removed

    def _remove(self, ids: list[str]) -> int:
        run = self._connection.execute
        marks = ",".join("?" * len(ids))
        found = run(
            f"SELECT id FROM embeddings WHERE segment_id = ? AND embedding_id IN ({marks})",  # noqa: S608 - marks only
            (self.collection.metadata_segment, *ids),
        )
        offsets = [(offset,) for (offset,) in found]
        for statement in (
            "DELETE FROM embedding_fulltext_search WHERE rowid = ?",
            "DELETE FROM embedding_metadata WHERE id = ?",
            "DELETE FROM embedding_metadata_array WHERE id = ?",
            "DELETE FROM embeddings WHERE id = ?",
        ):
            self._connection.executemany(statement, offsets)
        return len(offsets)

    def finish(self) -> None:
        """Let both segments stand at the last change, and the log hold that alone."""
        if self._last is None:
            return
        run = self._connection.execute
        for segment in (self.collection.metadata_segment, self.collection.vector_segment):
            run("INSERT OR REPLACE INTO max_seq_id (segment_id, seq_id) VALUES (?, ?)", (segment, self.sequence_id))
        run("DELETE FROM embeddings_queue")
        if isinstance(self._last, RecordBatch):
            append(self._connection, self.collection, self._last, self.sequence_id - 1, ADD)
        else:
            run(
                "INSERT INTO embeddings_queue (seq_id, operation, topic, id, metadata) VALUES (?, ?, ?, ?, '{}')",
                (self.sequence_id, DELETE, self.collection.topic, self._last),
            )


@contextmanager
def changing(folder: Path, collection: str) -> Iterator[RecordWriter]:
    """Change the records of a database in one transaction; the caller writes the index, up to `sequence_id`.

    Args:
        folder: a database of the caller's own, made by `api.create` or whole and synced; to be thrown away where this
            fails.
        collection: its only collection.

    Raises:
        UnknownFormatError: not a database that may be written directly, or its index is behind its records.
        ValueError, sqlite3.Error: it is damaged, or what was to be written cannot be.
    """
    with writing(folder, collection) as (connection, chosen):
        last = last_sequence_id(connection)
        if last and not chosen.metadata_seq == chosen.vector_seq == last:
            raise UnknownFormatError(str(folder), "its log is not applied to its end", "It is merged through chromadb")
        writer = RecordWriter(connection, chosen)
        yield writer
        writer.finish()


def _metadata_rows(batch: RecordBatch, offset: int) -> Iterator[_Row]:
    for i, values in enumerate(batch.metadatas):
        number = offset + i + 1
        yield number, DOCUMENT_KEY, batch.documents[i], None, None, None
        for key, value in values.items():
            if not isinstance(value, list):
                yield _metadata_row(number, key, value)


def _list_rows(batch: RecordBatch, offset: int) -> Iterator[_Row]:
    """A row for each element of each list, in order."""
    for number, values in enumerate(batch.metadatas, start=offset + 1):
        for key, value in values.items():
            if isinstance(value, list):
                for element in value:
                    yield _metadata_row(number, key, element)


def _metadata_row(number: int, key: str, value: Scalar) -> _Row:
    if isinstance(value, str):
        return number, key, value, None, None, None
    if isinstance(value, bool):
        return number, key, None, None, None, int(value)
    if isinstance(value, int):
        return number, key, None, value, None, None
    return number, key, None, None, value, None
