"""Read a collection's records directly from its files, exactly as `collection.get` would give them, many times faster.

What `get` gives for a vector, measured on chromadb 1.5.9: for l2 and ip the stored float32 values; for cosine the unit
vector times its norm, each in float32, and so up to about 1e-7 off what was written. That holds for vectors which are
still in the log as well, for ChromaDB replays them into an index in memory before it answers. The norm is the square
root of a plain sum from the first to the last dimension; any other order of summation gives other last bits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedding_assets.chroma.fingerprint import require_known
from embedding_assets.chroma.hnsw_files import HnswFiles, open_hnsw
from embedding_assets.chroma.replay import (
    VectorPlaces,
    index_of,
    indexed_up_to,
    locate_vectors,
    pending_changes,
)
from embedding_assets.chroma.sqlite_reader import (
    Collection,
    UnknownFormatError,
    choose,
    connect,
    log_metadata,
    log_vector,
    read_collections,
    split_document,
    stored_value,
    unknown_value,
)
from embedding_assets.errors import CorruptedError
from embedding_assets.records import RESERVED_KEYS, Metadata, Origin, RecordBatch, Vectors

__all__ = [
    "UnknownFormatError",
    "VectorReader",
    "as_cosine_gives",
    "read_ids",
    "read_origins",
    "read_records",
    "reading",
]

_REMEDY = "Quarantine it and build it again"


def read_records(folder: Path, collection: str | None = None, rows: int = 5000) -> Iterator[RecordBatch]:
    """All records, in the order and with the values of `collection.get`.

    A record without a document has the document "", one without metadata the metadata {} (ChromaDB says None to both).

    Args:
        folder: holds `chroma.sqlite3` and the segments' folders; nothing is written there.
        collection: its name; may be left out where there is only one.
        rows: the most records in a batch; memory is bound by it and by the ids.

    Raises:
        UnknownFormatError: not the format of chromadb 1.5.9, or a metadata value is a list; use chromadb itself.
        CorruptedError: the files contradict one another, with the reason.
    """
    with reading(folder) as connection:
        chosen = choose(read_collections(connection), collection)
        reader = VectorReader(connection, folder, chosen)
        count = 0
        for ids, metadatas in _pages(connection, chosen, rows):
            documents = [split_document(values) for values in metadatas]
            for values in metadatas:
                for key in values:
                    if key.startswith("chroma:"):
                        raise unknown_value(key)
            count += len(ids)
            yield RecordBatch(ids, reader.vectors(ids), documents, metadatas)
        if count != len(reader.places):
            raise ValueError(f"the index holds {len(reader.places)} records, SQLite {count}")


def read_ids(folder: Path, collection: str | None = None) -> list[str]:
    """The ids of all records, in the order of `collection.get`; raises as `read_records`, reads no vector."""
    with reading(folder) as connection:
        chosen = choose(read_collections(connection), collection)
        return [record_id for ids, _ in _pages(connection, chosen, 50_000, keys=()) for record_id in ids]


def read_origins(
    folder: Path, collection: str | None = None, rows: int = 50_000
) -> Iterator[tuple[list[str], list[Origin]]]:
    """The ids with their origins, in the order of `collection.get`; raises as `read_records`, reads no vector."""
    with reading(folder) as connection:
        chosen = choose(read_collections(connection), collection)
        for ids, metadatas in _pages(connection, chosen, rows, keys=RESERVED_KEYS):
            yield ids, [Origin.of(values) for values in metadatas]


def as_cosine_gives(raw: Vectors) -> Vectors:
    """What `get` of a cosine collection gives for these vectors, bit for bit; shape (n, D), float32, raw values."""
    with np.errstate(all="ignore"):
        squares = np.ascontiguousarray((raw * raw).T)
        total = np.zeros(len(raw), dtype=np.float32)
        for column in squares:  # numpy's own sum would add in another order
            total += column
        norms = np.sqrt(total)
        inverse = np.float32(1) / (norms + np.float32(1e-30))
        given: Vectors = (raw * inverse[:, None]) * norms[:, None]
    return given


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a database of the known format; what contradicts itself inside it becomes a CorruptedError."""
    try:
        connection = connect(folder)
        try:
            require_known(connection, folder)
            yield connection
        finally:
            connection.close()
    except (ValueError, sqlite3.Error, OverflowError) as error:
        raise CorruptedError(str(folder), str(error), _REMEDY) from error


def _pages(
    connection: sqlite3.Connection, collection: Collection, rows: int, keys: tuple[str, ...] | None = None
) -> Iterator[tuple[list[str], list[Metadata]]]:
    """Ids and metadata (these keys, or all; the document is among them), in `get()` order, log's tail included."""
    if rows < 1:
        raise ValueError("a batch has at least one row")
    changes = pending_changes(connection, collection)
    stored = connection.execute(
        # NOT INDEXED: the order is that of the table itself, and an index on the segment would mean sorting it.
        "SELECT id, embedding_id FROM embeddings NOT INDEXED WHERE segment_id = ? ORDER BY id",
        (collection.metadata_segment,),
    )
    while page := stored.fetchmany(rows):
        metadatas = _stored_metadata(connection, [offset for offset, _ in page], keys)
        ids: list[str] = []
        kept: list[Metadata] = []
        for (_, record_id), values in zip(page, metadatas, strict=True):
            if type(record_id) is not str:
                raise ValueError(f"the id {record_id!r} is no text")
            if record_id in changes.removed:
                continue
            for seq in changes.changed.get(record_id, ()):
                _merge(values, connection, seq, keys)
            ids.append(record_id)
            kept.append(values)
        if ids:
            yield ids, kept
    added = iter(changes.added.items())
    while tail := list(islice(added, rows)):
        yield [record_id for record_id, _ in tail], [_new_metadata(connection, seqs, keys) for _, seqs in tail]


def _stored_metadata(
    connection: sqlite3.Connection, offsets: list[int], keys: tuple[str, ...] | None
) -> list[Metadata]:
    """The metadata of the records with these ascending offset ids."""
    by_offset: dict[int, Metadata] = {offset: {} for offset in offsets}
    if keys == ():
        return list(by_offset.values())
    span = (offsets[0], offsets[-1])
    if connection.execute("SELECT 1 FROM embedding_metadata_array WHERE id BETWEEN ? AND ? LIMIT 1", span).fetchone():
        raise unknown_value("(a list)")
    where = "" if keys is None else f" AND key IN ({','.join('?' * len(keys))})"
    query = (
        "SELECT id, key, string_value, int_value, float_value, bool_value FROM embedding_metadata "  # noqa: S608 - no values in it
        f"WHERE id BETWEEN ? AND ?{where} ORDER BY id"
    )
    get = by_offset.get
    for offset, key, text, integer, real, boolean in connection.execute(query, span + (keys or ())):
        values = get(offset)
        if values is not None:  # another collection's records lie between ours
            values[key] = stored_value(key, text, integer, real, boolean)
    return list(by_offset.values())


def _merge(values: Metadata, connection: sqlite3.Connection, seq: int, keys: tuple[str, ...] | None) -> None:
    if keys == ():
        return
    for key, value in log_metadata(connection, seq).items():
        if keys is not None and key not in keys:
            continue
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value


def _new_metadata(connection: sqlite3.Connection, seqs: list[int], keys: tuple[str, ...] | None) -> Metadata:
    values: Metadata = {}
    for seq in seqs:
        _merge(values, connection, seq, keys)
    return values


class VectorReader:
    """Finds vectors by record id, in the HNSW files or in the log."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, collection: Collection) -> None:
        self._connection = connection
        self._collection = collection
        index = index_of(folder, collection)
        self.places: VectorPlaces = locate_vectors(connection, collection, index)
        if len(self.places) and collection.dimension is None:
            raise ValueError(f"collection {collection.name!r} holds vectors but has no dimension")
        self._dimension = collection.dimension or 0
        self._files: HnswFiles | None = None
        if index is not None:
            self._files = open_hnsw(folder / collection.vector_segment, self._dimension)
            self._order = np.argsort(self._files.labels, kind="stable")
            self._sorted = self._files.labels[self._order]
        self._indexed_up_to = indexed_up_to(collection, index)

    def vectors(self, ids: list[str]) -> Vectors:
        """The vectors of these ids, shape (n, D), float32, as `get` gives them."""
        out = np.empty((len(ids), self._dimension), dtype=np.float32)
        labels, log_rows = self.places.labels, self.places.log_rows
        from_index: list[int] = []
        wanted: list[int] = []
        from_log: list[int] = []
        raw: list[bytes] = []
        for i, record_id in enumerate(ids):
            label = labels.get(record_id)
            if label is not None:
                from_index.append(i)
                wanted.append(label)
            elif record_id in log_rows:
                from_log.append(i)
                raw.append(log_vector(self._connection, log_rows[record_id], self._dimension))
            else:
                raise ValueError(f"record {record_id!r} is in SQLite but not in the index, nor in the log behind it")
        if from_index:
            out[from_index] = self._indexed(np.asarray(wanted, dtype=np.uint64))
        if from_log:
            vectors = np.frombuffer(b"".join(raw), dtype="<f4").reshape(-1, self._dimension)
            out[from_log] = as_cosine_gives(vectors) if self._collection.space == "cosine" else vectors
        return out

    def _indexed(self, labels: npt.NDArray[np.uint64]) -> Vectors:
        files = self._files
        if files is None or not len(self._sorted):
            raise ValueError("the index names records but is empty")
        at = np.minimum(np.searchsorted(self._sorted, labels), len(self._sorted) - 1)
        rows = self._order[at]
        if (self._sorted[at] != labels).any() or files.deleted[rows].any():
            raise ValueError("the index names a record whose vector is not there, or is deleted")
        vectors: Vectors = files.vectors[rows]
        if self._collection.space == "cosine":
            with np.errstate(all="ignore"):
                vectors *= files.norms[rows][:, None]
        return vectors
