"""What the write-ahead log says: rows, and the metadata and vectors in them, many at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from embedding_assets.chroma.sqlite_reader import DOCUMENT_KEY, Collection, require_texts, unknown_value
from embedding_assets.floats import float_as_serde
from embedding_assets.records import Value, Vectors, slices

ADD, UPDATE, UPSERT, DELETE = range(4)
_AT_ONCE = 500  # rows in one query
_SHORT = 16  # characters: so long a number has at most 15 digits, which every parser reads alike
_MAX_INTEGER = 2**63 - 1


class LogRow(NamedTuple):
    """One row of the write-ahead log, without its vector's and metadata's values."""

    seq: int
    operation: int
    record_id: str
    has_vector: bool


def read_log(connection: sqlite3.Connection, collection: Collection, after: int) -> Iterator[LogRow]:
    """The collection's log rows behind `after`, in order; ValueError for a row that cannot be one."""
    query = "SELECT seq_id, operation, id, vector IS NOT NULL FROM embeddings_queue WHERE topic = ? AND seq_id > ?"
    for seq, operation, record_id, has_vector in connection.execute(
        query + " ORDER BY seq_id", (collection.topic, after)
    ):
        if type(record_id) is not str or not record_id.isascii():
            require_texts(record_id)
        if operation not in (ADD, UPDATE, UPSERT, DELETE):
            raise ValueError(f"log row {seq} has the operation {operation!r}")
        yield LogRow(seq, operation, record_id, bool(has_vector))


def log_vectors(connection: sqlite3.Connection, seqs: Sequence[int], dimension: int) -> Vectors:
    """The vectors of these log rows as they were written, shape (n, dimension), float32.

    Raises:
        ValueError: a row is missing, or its vector has not this dimension.
    """
    out = np.empty((len(seqs), dimension), dtype="<f4")
    for some in slices(len(seqs), _AT_ONCE):
        found = _values(connection, "vector, encoding", seqs[some])
        for seq in seqs[some]:
            vector, encoding = found[seq]
            if encoding != "FLOAT32" or type(vector) is not bytes or len(vector) != 4 * dimension:
                raise ValueError(f"log row {seq} holds no float32 vector of {dimension} dimensions")
        joined = b"".join([found[seq][0] for seq in seqs[some]])
        out[some] = np.frombuffer(joined, dtype="<f4").reshape(-1, dimension)
    return out.astype(np.float32, copy=False)


def log_metadata(connection: sqlite3.Connection, seqs: Sequence[int]) -> list[dict[str, Value | None]]:
    """The metadata of these log rows, the document among them; None means that the key is to be deleted.

    Raises:
        ValueError: a row is missing, or holds no JSON object.
        UnknownFormatError: a value is an object, or a list of something else than scalars of one type.
    """
    parsed: list[dict[str, Value | None]] = []
    for some in slices(len(seqs), _AT_ONCE):
        found = _values(connection, "metadata, NULL", seqs[some])
        parsed.extend(parse_metadata(seq, found[seq][0]) for seq in seqs[some])
    return parsed


def _values(connection: sqlite3.Connection, columns: str, seqs: Sequence[int]) -> dict[int, tuple[Any, Any]]:
    """Two columns of these log rows, by sequence id; every row is there."""
    marks = ",".join("?" * len(seqs))
    query = f"SELECT seq_id, {columns} FROM embeddings_queue WHERE seq_id IN ({marks})"  # noqa: S608 - no values in it
    found = {seq: (one, other) for seq, one, other in connection.execute(query, seqs)}
    for seq in seqs:
        if seq not in found:
            raise ValueError(f"log row {seq} is missing")
    return found


def parse_metadata(seq: int, text: Any) -> dict[str, Value | None]:
    """The metadata of this log row from the JSON text that stands there; raises as `log_metadata`."""
    if text is None:
        return {}
    if type(text) is not str:
        raise ValueError(f"log row {seq} holds metadata that is no text")
    values = _quickly(text)
    if values is None:
        try:
            values = json.loads(text, parse_float=float_as_serde, parse_constant=_no_constant)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"log row {seq} holds metadata that is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"log row {seq} holds metadata that is no JSON object")
    for key, value in values.items():
        kind = type(value)
        if kind is str:
            if not value.isascii():
                require_texts(value)
        elif kind is int:
            if not -_MAX_INTEGER - 1 <= value <= _MAX_INTEGER:
                raise ValueError(f"log row {seq} holds a number beyond 64 bits")
        elif kind is list:
            _require_list(seq, key, value)
        elif kind is dict:
            raise unknown_value(key)
        if key == DOCUMENT_KEY and kind is not str:
            raise ValueError(f"log row {seq} holds a document that is no text")
        if not key.isascii():
            require_texts(key)
    return values


def _require_list(seq: int, key: str, values: list[Any]) -> None:
    """Raise for a list that ChromaDB does not hold."""
    kinds = {type(value) for value in values}
    if len(kinds) != 1 or not kinds <= {str, int, float, bool}:
        raise unknown_value(key)
    if kinds == {str}:
        require_texts(*values)
    if kinds == {int} and not all(-_MAX_INTEGER - 1 <= value <= _MAX_INTEGER for value in values):
        raise ValueError(f"log row {seq} holds a number beyond 64 bits")


def _quickly(text: str) -> Any:
    """The JSON value as a correct parser reads it; None where ChromaDB's own might read it otherwise."""
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    for value in values.values() if isinstance(values, dict) else ():
        if type(value) is list and any(type(item) is float for item in value):
            return None
        if type(value) is float:
            number = repr(value)
            # All parsers agree on what is short and stands there in its shortest form.
            if "e" in number or len(number) > _SHORT or not (f":{number}," in text or f":{number}}}" in text):
                return None
    return values


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")
