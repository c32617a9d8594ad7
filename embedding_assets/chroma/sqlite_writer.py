"""Opens `chroma.sqlite3` to be written without ChromaDB: the gate, the settings that writing changes, the transaction.

What is written is what chromadb 1.5.9 itself leaves, table by table: `log_writer` writes records as rows of the
write-ahead log and nothing else, `record_writer` as what they are once the log was applied. The tables themselves are
always made by ChromaDB (`api.create`), so that definitions and migrations are its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from embedding_assets.chroma.fingerprint import CHROMADB_VERSION, require_known
from embedding_assets.chroma.sqlite_reader import (
    DOCUMENT_KEY,
    SQLITE_FILE,
    Collection,
    UnknownFormatError,
    choose,
    connect,
    read_collections,
)
from embedding_assets.records import Metadata, RecordBatch, Value, without_minus_zero

_TRIGRAM_SINCE = (3, 34, 0)  # the tokenizer of the full-text table
CACHE_KIB = 128 * 1024
LOG_CACHE_KIB = 4 * 1024  # what is appended is not looked at again
_KINDS = {str: "string", int: "int", float: "float", bool: "bool"}
_REMEDY = "It is written through chromadb instead"


@contextmanager
def writing(
    folder: Path, collection: str, cache_kib: int = CACHE_KIB
) -> Iterator[tuple[sqlite3.Connection, Collection]]:
    """One transaction on the database in this folder; yields the connection and the collection as it stands.

    The folder must be the caller's own and be thrown away where this fails: nothing is journalled.

    Args:
        folder: made by `api.create`, or written before.
        collection: the name of the only collection there.
        cache_kib: so much of it may be kept in memory.

    Raises:
        UnknownFormatError: not a database that may be written directly.
        ValueError, sqlite3.Error: it is damaged, or what was to be written cannot be.
    """
    with connected(folder) as reading:
        require_writable(reading, folder)
        chosen = choose(read_collections(reading), collection)
    connection = sqlite3.connect(folder / SQLITE_FILE, isolation_level=None)
    try:
        # None of these is kept in the file. A database that is only half written is never looked at again.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{cache_kib}"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN IMMEDIATE")
        yield connection, chosen
        connection.execute("COMMIT")
    finally:
        connection.close()


@contextmanager
def connected(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads, closed afterwards."""
    connection = connect(folder)
    try:
        yield connection
    finally:
        connection.close()


def writable(folder: Path) -> bool:
    """Whether the direct writers may write the database in this folder."""
    try:
        with connected(folder) as connection:
            require_writable(connection, folder)
    except (ValueError, UnknownFormatError):
        return False
    return True


def require_writable(connection: sqlite3.Connection, folder: Path) -> None:
    """Raise UnknownFormatError unless this is the one format, written by the one version, with one collection."""
    installed = version("chromadb")
    if installed != CHROMADB_VERSION:
        raise UnknownFormatError(str(folder), f"chromadb is {installed}, not {CHROMADB_VERSION}", _REMEDY)
    require_known(connection, folder)
    if sqlite3.sqlite_version_info < _TRIGRAM_SINCE:
        raise UnknownFormatError(str(folder), f"SQLite {sqlite3.sqlite_version} knows no trigrams", _REMEDY)
    try:
        sqlite3.connect(":memory:").execute("CREATE VIRTUAL TABLE trial USING fts5(text, tokenize='trigram')")
    except sqlite3.Error:
        raise UnknownFormatError(str(folder), "this SQLite has no full-text search", _REMEDY) from None
    (collections,) = connection.execute("SELECT count(*) FROM collections").fetchone()
    if collections != 1:
        raise UnknownFormatError(str(folder), f"it has {collections} collections, not one", _REMEDY)
    (config,) = connection.execute("SELECT count(*) FROM embeddings_queue_config").fetchone()
    if config > 1:
        raise UnknownFormatError(str(folder), "its log has more than one configuration", _REMEDY)


def last_sequence_id(connection: sqlite3.Connection) -> int:
    """The greatest sequence id that was ever given out; the next is one more, in whatever collection."""
    (greatest,) = connection.execute(
        "SELECT max((SELECT ifnull(max(seq_id), 0) FROM embeddings_queue), "
        "(SELECT ifnull(max(seq_id), 0) FROM max_seq_id))"
    ).fetchone()
    return int(greatest)


def learn_settings(connection: sqlite3.Connection, collection: Collection, batch: RecordBatch) -> None:
    """Note what a collection's settings say of its records: the dimension, and the types of every metadata key.

    Raises:
        ValueError: the batch is of another dimension, or a key is one that chromadb refuses.
        UnknownFormatError: a key is one of chromadb's own.
    """
    if not len(batch):
        return
    dimension, text = connection.execute(
        "SELECT dimension, schema_str FROM collections WHERE id = ?", (collection.id,)
    ).fetchone()
    width = int(batch.embeddings.shape[1])
    if dimension not in (None, width):
        raise ValueError(f"vectors of {width} dimensions for a collection of {dimension}")
    schema: dict[str, Any] = json.loads(text)
    for key, kind in {(key, _kind_of(value)) for values in batch.metadatas for key, value in values.items()}:
        _require_usable(key)
        name = _KINDS[kind]
        schema["keys"].setdefault(key, {}).setdefault(name, schema["defaults"][name])
    connection.execute(
        "UPDATE collections SET dimension = ?, schema_str = ? WHERE id = ?",
        (width, _as_text(schema), collection.id),
    )


def set_sync_threshold(folder: Path, collection: str, threshold: int) -> None:
    """As `api.set_sync_threshold`, in a twentieth of the time; raises as `writing`."""
    with writing(folder, collection) as (connection, chosen):
        (text,) = connection.execute("SELECT schema_str FROM collections WHERE id = ?", (chosen.id,)).fetchone()
        schema: dict[str, Any] = json.loads(text)
        for part in (schema["defaults"], schema["keys"]["#embedding"]):
            part["float_list"]["vector_index"]["config"]["hnsw"]["sync_threshold"] = threshold
        connection.execute("UPDATE collections SET schema_str = ? WHERE id = ?", (_as_text(schema), chosen.id))


def raw_vectors(batch: RecordBatch) -> memoryview:
    """The vectors of a batch as little-endian float32, one after the other, as bytes.

    Raises:
        ValueError: a number is not finite.
    """
    if not np.isfinite(batch.embeddings).all():
        raise ValueError("a vector is not finite")
    return np.ascontiguousarray(batch.embeddings, dtype="<f4").reshape(-1).view(np.uint8).data


def log_text(document: str, metadata: Metadata) -> str:
    """Document and metadata as the JSON text that stands in the log."""
    text = orjson.dumps({DOCUMENT_KEY: document, **metadata})
    if b"-0.0" in text:
        text = orjson.dumps({DOCUMENT_KEY: document, **without_minus_zero(metadata)})
    return text.decode()


def _kind_of(value: Value) -> type:
    """The type of a value, or of those in a list; ChromaDB's settings do not tell them apart."""
    return type(value[0]) if isinstance(value, list) else type(value)


def _as_text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=False)


def _require_usable(key: str) -> None:
    if not key or key.startswith(("#", "$")):
        raise ValueError(f"chromadb takes no metadata key {key!r}")
    if key.startswith("chroma:"):
        raise UnknownFormatError(f"metadata key {key!r}", "is chromadb's own", _REMEDY)
