"""What `chroma.sqlite3` says: collections, segments, records, metadata and the write-ahead log, read without ChromaDB.

SQLite opens the file as immutable: nothing is written, no lock is taken, no journal is looked at. A journal that was
left behind means that the main file may hold half a transaction, so `connect` refuses such a folder.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.records import Metadata, Scalar

SQLITE_FILE = "chroma.sqlite3"
DOCUMENT_KEY = "chroma:document"
TOPIC_PREFIX = "persistent://default/default/"

ADD, UPDATE, UPSERT, DELETE = range(4)
_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_MAX_INTEGER = 2**63 - 1
_POWERS = [float(f"1e{n}") for n in range(309)]


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


@dataclass(frozen=True, slots=True)
class LogRow:
    """One row of the write-ahead log, without its vector's and metadata's values."""

    seq: int
    operation: int
    record_id: str
    has_vector: bool


def _size_in_header(header: bytes) -> int:
    """The size in bytes that a database's header gives it; 0 where the header does not vouch for it.

    SQLite reads the missing end of a cut page as zeros, and its own check does not always mind. Source: section 1.3 of
    SQLite's file format: the page count holds if the change counter equals the version-valid-for number.
    """
    if len(header) < _HEADER_BYTES or header[24:28] != header[92:96]:
        return 0
    page = int.from_bytes(header[16:18], "big")
    return int.from_bytes(header[28:32], "big") * (65_536 if page == 1 else page)


def connect(folder: Path) -> sqlite3.Connection:
    """Open the folder's database to read only; the caller closes it.

    Raises:
        ValueError: there is no such file, it is no SQLite database, or a journal was left behind.
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
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        connection.close()
        raise ValueError(f"{SQLITE_FILE} cannot be read: {error}") from error
    return connection


def read_collections(connection: sqlite3.Connection) -> list[Collection]:
    """All collections, by name.

    Raises:
        ValueError: a collection lacks a segment, or what stands there is of a wrong type.
        UnknownFormatError: settings that the direct readers do not know (written by another version).
        sqlite3.Error: the file is damaged.
    """
    segments: dict[str, dict[str, str]] = {}
    for segment_id, kind, scope, owner in connection.execute("SELECT id, type, scope, collection FROM segments"):
        _texts(segment_id, kind, scope, owner)
        if scope in segments.setdefault(owner, {}):
            raise ValueError(f"collection {owner} has two {scope} segments")
        segments[owner][scope] = segment_id
    seqs: dict[str, int] = {}
    for segment_id, seq in connection.execute("SELECT segment_id, seq_id FROM max_seq_id"):
        _texts(segment_id)
        if not isinstance(seq, int) or seq < 0:
            raise ValueError(f"max_seq_id of segment {segment_id} is {seq!r}")
        seqs[segment_id] = seq
    found = []
    rows = connection.execute("SELECT id, name, dimension, schema_str FROM collections ORDER BY name, id").fetchall()
    for collection_id, name, dimension, schema in rows:
        _texts(collection_id, name)
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


def read_log(connection: sqlite3.Connection, collection: Collection, after: int) -> Iterator[LogRow]:
    """The collection's log rows behind `after`, in order; ValueError for a row that cannot be one."""
    query = "SELECT seq_id, operation, id, vector IS NOT NULL FROM embeddings_queue WHERE topic = ? AND seq_id > ?"
    for seq, operation, record_id, has_vector in connection.execute(
        query + " ORDER BY seq_id", (collection.topic, after)
    ):
        _texts(record_id)
        if operation not in (ADD, UPDATE, UPSERT, DELETE):
            raise ValueError(f"log row {seq} has the operation {operation!r}")
        yield LogRow(seq, operation, record_id, bool(has_vector))


def log_vector(connection: sqlite3.Connection, seq: int, dimension: int) -> bytes:
    """The raw little-endian float32 vector of this log row; ValueError if it has not this dimension."""
    row = connection.execute("SELECT vector, encoding FROM embeddings_queue WHERE seq_id = ?", (seq,)).fetchone()
    if row is None:
        raise ValueError(f"log row {seq} is missing")
    vector, encoding = row
    if encoding != "FLOAT32" or not isinstance(vector, bytes) or len(vector) != 4 * dimension:
        raise ValueError(f"log row {seq} holds no float32 vector of {dimension} dimensions")
    return vector


def log_metadata(connection: sqlite3.Connection, seq: int) -> dict[str, Scalar | None]:
    """The metadata of this log row, the document among them; None means that the key is to be deleted.

    Raises:
        ValueError: it is no JSON object.
        UnknownFormatError: a value is a list or an object.
    """
    row = connection.execute("SELECT metadata FROM embeddings_queue WHERE seq_id = ?", (seq,)).fetchone()
    if row is None:
        raise ValueError(f"log row {seq} is missing")
    if row[0] is None:
        return {}
    try:
        values = json.loads(row[0], parse_float=_float_as_serde, parse_constant=_no_constant)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"log row {seq} holds metadata that is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"log row {seq} holds metadata that is no JSON object")
    for key, value in values.items():
        if isinstance(value, (list, dict)):
            raise unknown_value(key)
        if isinstance(value, int) and not -_MAX_INTEGER - 1 <= value <= _MAX_INTEGER:
            raise ValueError(f"log row {seq} holds a number beyond 64 bits")
        if key == DOCUMENT_KEY and not isinstance(value, str):
            raise ValueError(f"log row {seq} holds a document that is no text")
        _texts(key)
        if isinstance(value, str):
            _texts(value)
    return values


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
    """The error for a metadata value that is a list."""
    return UnknownFormatError(
        f"metadata key {key!r}", "its value is no single text or number", "It is read through chromadb instead"
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


def _texts(*values: Any) -> None:
    for value in values:
        if type(value) is not str:
            raise ValueError(f"{value!r} stands where a text must be")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ValueError("a text holds a lone surrogate") from error


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _float_as_serde(text: str) -> float:
    """The number as ChromaDB's JSON parser reads it, which is up to some units in the last place off.

    It takes as many digits as fit 64 bits, and then multiplies or divides once by a power of ten.
    """
    mantissa, _, exponent_text = text.lower().partition("e")
    negative = mantissa.startswith("-")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    exponent = int(exponent_text) if exponent_text else 0
    significand, full = 0, False
    for digits, decimal in ((whole, False), (fraction, True)):
        for i, digit in enumerate(digits):
            if full or significand * 10 + int(digit) >= 1 << 64:
                full = True
                if decimal:
                    break
                exponent += len(digits) - i
                break
            significand = significand * 10 + int(digit)
            exponent -= decimal
    value = float(significand)
    while value and exponent < -308:
        value /= 1e308
        exponent += 308
    if value:
        if exponent > 308:
            raise ValueError("a number is out of range")
        value = value * _POWERS[exponent] if exponent >= 0 else value / _POWERS[-exponent]
    if value == float("inf"):
        raise ValueError("a number is out of range")
    return -value if negative else value
