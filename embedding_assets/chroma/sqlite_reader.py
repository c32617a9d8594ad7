"""What `chroma.sqlite3` says: collections, segments, records, metadata and the write-ahead log, read without ChromaDB.

SQLite opens the file as immutable: nothing is written, no lock is taken, no journal is looked at. A journal that was
left behind means that the main file may hold half a transaction, so `connect` refuses such a folder.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedding_assets.chroma.schema import strange_object
from embedding_assets.errors import CorruptedError, EmbeddingAssetsError
from embedding_assets.records import Metadata, Scalar

SQLITE_FILE = "chroma.sqlite3"
DOCUMENT_KEY = "chroma:document"
TOPIC_PREFIX = "persistent://default/default/"

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100


class UnknownFormatError(EmbeddingAssetsError):
    """The database may be whole, but the direct readers do not know all that it uses; ChromaDB itself does."""


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection and its segments.

    Attributes:
        dimension: None until the first write.
        space: `cosine`, `l2` or `ip`.
        max_neighbors: HNSW's M.
        metadata_seq: the log was applied to the records up to here; 0 if never.
        vector_seq: the log was written to the HNSW files up to here; None if never.
    """

    id: str
    name: str
    dimension: int | None
    space: str
    max_neighbors: int
    ef_construction: int
    sync_threshold: int
    vector_segment: str
    metadata_segment: str
    metadata_seq: int
    vector_seq: int | None

    @property
    def topic(self) -> str:
        """The name under which the collection's rows stand in the log."""
        return TOPIC_PREFIX + self.id


def _size_in_header(header: bytes) -> int:
    """The size in bytes that a database's header gives it; 0 where the header does not vouch for it.

    SQLite reads the missing end of a cut page as zeros, and its own check does not always mind. Source: section 1.3 of
    SQLite's file format: the page count holds if the change counter equals the version-valid-for number.
    """
    if len(header) < _HEADER_BYTES or header[24:28] != header[92:96]:
        return 0
    page = int.from_bytes(header[16:18], "big")
    return int.from_bytes(header[28:32], "big") * (65_536 if page == 1 else page)


def change_counter(path: Path) -> int | None:
    """SQLite's change counter: each transaction of whatever program moves it on; None where the header is not whole."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or header[: len(_MAGIC)] != _MAGIC:
        return None
    counter, of_size = int.from_bytes(header[24:28], "big"), int.from_bytes(header[92:96], "big")
    return counter if counter == of_size else None  # SQLite writes both at once


def connect(folder: Path) -> sqlite3.Connection:
    """Open the folder's database to read only; the caller closes it.

    Raises:
        ValueError: there is no such file, it is no SQLite database, a journal was left behind, or it defines what no
            version of chromadb does.
    """
    path = folder / SQLITE_FILE
    if not path.is_file():
        raise ValueError(f"{SQLITE_FILE} is missing")
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if header[: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"{SQLITE_FILE} is no SQLite database")
    if (wanted := _size_in_header(header)) > path.stat().st_size:
        raise ValueError(f"{SQLITE_FILE} has {path.stat().st_size} bytes of {wanted}")
    for suffix in ("-journal", "-wal"):
        journal = path.with_name(path.name + suffix)
        if journal.exists() and journal.stat().st_size:
            raise ValueError(f"{journal.name} was left behind: the last transaction may be in {SQLITE_FILE} by half")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    except sqlite3.Error as error:
        raise ValueError(f"{SQLITE_FILE} cannot be opened: {error}") from error
    try:
        # Do not trust what the file says about itself: no functions from its schema, every page checked when read.
        for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        strange = strange_object(connection)
    except sqlite3.Error as error:
        connection.close()
        raise ValueError(f"{SQLITE_FILE} cannot be read: {error}") from error
    if strange:
        connection.close()
        raise ValueError(f"{SQLITE_FILE}: {strange}")
    return connection


def require_own_schema(folder: Path) -> None:
    """Raise CorruptedError where a database, whatever else is wrong with it, defines what no chromadb does.

    For whoever hands the folder to chromadb, which opens it without a look: a trigger would run at the first write.
    """
    path = folder / SQLITE_FILE
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema=OFF")
            strange = strange_object(connection)
    except sqlite3.Error:
        return  # chromadb says what is wrong with it
    if strange:
        raise CorruptedError(str(folder), f"{SQLITE_FILE}: {strange}", "It was not opened.")


def read_collections(connection: sqlite3.Connection) -> list[Collection]:
    """All collections, by name.

    Raises:
        ValueError: a collection lacks a segment, or what stands there is of a wrong type.
        UnknownFormatError: settings that the direct readers do not know (written by another version).
        sqlite3.Error: the file is damaged.
    """
    segments: dict[str, dict[str, str]] = {}
    for segment_id, kind, scope, owner in connection.execute("SELECT id, type, scope, collection FROM segments"):
        require_texts(segment_id, kind, scope, owner)
        if scope in segments.setdefault(owner, {}):
            raise ValueError(f"collection {owner} has two {scope} segments")
        segments[owner][scope] = segment_id
    seqs: dict[str, int] = {}
    for segment_id, seq in connection.execute("SELECT segment_id, seq_id FROM max_seq_id"):
        require_texts(segment_id)
        if not isinstance(seq, int) or seq < 0:
            raise ValueError(f"max_seq_id of segment {segment_id} is {seq!r}")
        seqs[segment_id] = seq
    found = []
    rows = connection.execute("SELECT id, name, dimension, schema_str FROM collections ORDER BY name, id").fetchall()
    for collection_id, name, dimension, schema in rows:
        require_texts(collection_id, name)
        own = segments.get(collection_id, {})
        if set(own) != {"VECTOR", "METADATA"}:
            raise ValueError(f"collection {name!r} has the segments {sorted(own)}, not one VECTOR and one METADATA")
        if any("/" in segment or segment.startswith(".") for segment in own.values()):
            raise ValueError(f"collection {name!r} has a segment that cannot be a folder's name")
        if dimension is not None and (not isinstance(dimension, int) or not 0 < dimension < 1 << 20):
            raise ValueError(f"collection {name!r} has the dimension {dimension!r}")
        space, settings = _settings(name, schema)
        found.append(
            Collection(
                id=collection_id,
                name=name,
                dimension=dimension,
                space=space,
                max_neighbors=settings["max_neighbors"],
                ef_construction=settings["ef_construction"],
                sync_threshold=settings["sync_threshold"],
                vector_segment=own["VECTOR"],
                metadata_segment=own["METADATA"],
                metadata_seq=seqs.get(own["METADATA"], 0),
                vector_seq=seqs.get(own["VECTOR"]),
            )
        )
    unowned = set(segments) - {collection.id for collection in found}
    if unowned:
        raise ValueError(f"there are segments of the collections {sorted(unowned)}, which are missing")
    return found


def choose(collections: list[Collection], name: str | None) -> Collection:
    """The collection of this name, or the only one; ValueError if there is none such."""
    chosen = [c for c in collections if name is None or c.name == name]
    if len(chosen) != 1:
        raise ValueError(
            f"it holds the collections {[c.name for c in collections]}, so "
            + (name or "a single one")
            + " is not there"
        )
    return chosen[0]


def stored_value(key: Any, text: Any, integer: Any, real: Any, boolean: Any) -> Scalar:
    """The one value of a row of embedding_metadata, with its type; ValueError if there is not exactly one."""
    if type(key) is str:
        if text is not None:
            if type(text) is str and integer is None and real is None and boolean is None:
                return text
        elif integer is not None:
            if type(integer) is int and real is None and boolean is None:
                return integer
        elif real is not None:
            if type(real) is float and boolean is None:
                return real
        elif boolean in (0, 1):
            return bool(boolean)
    raise ValueError(f"the metadata key {key!r} has not exactly one value of its type")


def unknown_value(key: str) -> UnknownFormatError:
    """The error for a metadata value that is neither a scalar nor a list of scalars of one type."""
    return UnknownFormatError(
        f"metadata key {key!r}", "its value is no text, number or list of such", "It is read through chromadb instead"
    )


def split_document(values: Metadata) -> str:
    """Take the document out of a record's metadata; "" for a record that has none, where ChromaDB says None."""
    document = values.pop(DOCUMENT_KEY, "")
    if not isinstance(document, str):
        raise ValueError("a document is no text")
    return document


def _settings(name: str, schema: Any) -> tuple[str, dict[str, int]]:
    """The distance and the HNSW settings in `collections.schema_str`."""
    if schema is None:
        raise UnknownFormatError(
            f"collection {name!r}", "its settings were written by an older chromadb", "It is read through chromadb"
        )
    try:
        config = json.loads(schema)["keys"]["#embedding"]["float_list"]["vector_index"]["config"]
        space, hnsw = config["space"], config["hnsw"]
        settings = {key: hnsw[key] for key in ("max_neighbors", "ef_construction", "sync_threshold")}
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"collection {name!r} has settings that cannot be read: {error!r}") from error
    if space not in ("cosine", "l2", "ip") or not all(type(v) is int and v > 0 for v in settings.values()):
        raise ValueError(f"collection {name!r} has settings that cannot be: {space!r}, {settings}")
    return space, settings


def require_texts(*values: Any) -> None:
    """ValueError for what is no text, or none that UTF-8 can hold."""
    for value in values:
        if type(value) is not str:
            raise ValueError(f"{value!r} stands where a text must be")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ValueError("a text holds a lone surrogate") from error
