"""Where each record's latest vector and metadata stand, once the log's tail is taken into account.

ChromaDB replays, at every open, the log rows that its two segments have not seen: the METADATA segment those behind
its max_seq_id (normally none), the VECTOR segment those behind the last time that the index was written to disk. This
does the same on paper, by id and log row, without moving a vector:

- add: nothing if the id is there; update: nothing if it is not; upsert: either; delete: nothing if it is not there;
- an update without a vector leaves the vector; metadata are merged key by key, null deletes a key;
- a record that is deleted and added again comes last in `get()`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from embedding_assets.chroma.index_metadata import INDEX_METADATA_FILE, IndexMetadata, read_index_metadata
from embedding_assets.chroma.log_reader import ADD, DELETE, UPDATE, read_log
from embedding_assets.chroma.sqlite_reader import Collection


@dataclass(frozen=True, slots=True)
class VectorPlaces:
    """Where the vectors are.

    Attributes:
        labels: ids whose vector is in the HNSW files, with its label.
        log_rows: ids whose vector is in the log, with the row's seq id.
        index: the pickle, if the index was ever written and is not empty.
    """

    labels: dict[str, int]
    log_rows: dict[str, int]
    index: IndexMetadata | None

    def __len__(self) -> int:
        return len(self.labels) + len(self.log_rows)


@dataclass(frozen=True, slots=True)
class RecordChanges:
    """What the log's tail changes of the records in SQLite.

    Attributes:
        removed: ids of stored records that are deleted (and perhaps added again).
        changed: ids of stored records, with the log rows whose metadata are to be merged in.
        added: ids of new records in `get()` order, with the log rows whose metadata are to be merged.
    """

    removed: set[str] = field(default_factory=set)
    changed: dict[str, list[int]] = field(default_factory=dict)
    added: dict[str, list[int]] = field(default_factory=dict)


def index_of(folder: Path, collection: Collection) -> IndexMetadata | None:
    """The pickle of the collection's index, or None where ChromaDB would begin a new index.

    Raises:
        ValueError: the pickle is damaged, or is missing although the index was written.
    """
    path = folder / collection.vector_segment / INDEX_METADATA_FILE
    if not path.is_file():
        if collection.vector_seq:
            raise ValueError(
                f"{INDEX_METADATA_FILE} is missing, but the index was written up to {collection.vector_seq}"
            )
        return None
    index = read_index_metadata(path)
    # ChromaDB takes an index without a live record for none at all, and replays the whole log into a new one.
    return index if index.id_to_label else None


def indexed_up_to(collection: Collection, index: IndexMetadata | None) -> int:
    """The last log row that is in the HNSW files."""
    if index is None:
        return 0
    return collection.vector_seq if collection.vector_seq is not None else index.max_seq_id or 0


def locate_vectors(connection: sqlite3.Connection, collection: Collection, index: IndexMetadata | None) -> VectorPlaces:
    """Replay the log's tail over the index's ids; ValueError for a row that ChromaDB could not replay."""
    labels = dict(index.id_to_label) if index else {}
    rows: dict[str, int] = {}
    for seq, operation, record_id, has_vector in read_log(connection, collection, indexed_up_to(collection, index)):
        known = record_id in rows or record_id in labels
        if operation == DELETE:
            labels.pop(record_id, None)
            rows.pop(record_id, None)
        elif (operation == ADD and known) or (operation == UPDATE and not (known and has_vector)):
            continue
        elif not has_vector:
            raise ValueError(f"log row {seq} adds a record without a vector")
        else:
            labels.pop(record_id, None)
            rows[record_id] = seq
    return VectorPlaces(labels, rows, index)


def pending_changes(connection: sqlite3.Connection, collection: Collection) -> RecordChanges:
    """Replay the log's tail over the records' ids."""
    changes = RecordChanges()
    rows = list(read_log(connection, collection, collection.metadata_seq))
    stored = _stored(connection, collection) if rows else frozenset()
    removed, changed, added = changes.removed, changes.changed, changes.added
    for seq, operation, record_id, _ in rows:
        new = record_id in added
        old = not new and record_id in stored and record_id not in removed
        if operation == DELETE:
            if new:
                del added[record_id]
            elif old:
                removed.add(record_id)
                changed.pop(record_id, None)
        elif (operation == ADD and (new or old)) or (operation == UPDATE and not (new or old)):
            continue
        elif old:
            changed.setdefault(record_id, []).append(seq)
        else:
            added.setdefault(record_id, []).append(seq)
    return changes


def _stored(connection: sqlite3.Connection, collection: Collection) -> frozenset[str]:
    """The ids of the records in SQLite."""
    rows = connection.execute(
        "SELECT embedding_id FROM embeddings WHERE segment_id = ?", (collection.metadata_segment,)
    )
    return frozenset(record_id for (record_id,) in rows)
