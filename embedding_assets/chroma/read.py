"""Reads a collection's records directly from its files, exactly as `collection.get` gives them, many times faster."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from embedding_assets.chroma.fingerprint import require_known
from embedding_assets.chroma.log_reader import log_metadata, read_log
from embedding_assets.chroma.plain_log import count_plain, plain_pages, plain_records
from embedding_assets.chroma.replay import index_of, pending_changes
from embedding_assets.chroma.sqlite_reader import (
    Collection,
    UnknownFormatError,
    choose,
    connect,
    read_collections,
    split_document,
    stored_value,
    unknown_value,
)
from embedding_assets.chroma.vectors import VectorReader, as_cosine_gives
from embedding_assets.errors import CorruptedError
from embedding_assets.records import RESERVED_KEYS, Metadata, Origin, RecordBatch, Value, Vectors

_REMEDY = "Quarantine it and build it again"


def read_records(
    folder: Path, collection: str | None = None, rows: int = 5000, *, raw: bool = False
) -> Iterator[RecordBatch]:
    """All records, in the order and with the values of `collection.get`.

    A record without a document has the document "", one without metadata the metadata {} (ChromaDB says None to both).

    Args:
        folder: holds `chroma.sqlite3` and the segments' folders; nothing is written there.
        collection: its name; may be left out where there is only one.
        rows: the most records in a batch; memory is bound by it and by the ids.
        raw: give the vectors that are still in the log as they were written, not as `get` would give them.

    Raises:
        UnknownFormatError: not the format of chromadb 1.5.9, or a metadata value is an object; use chromadb itself.
        CorruptedError: the files contradict one another, with the reason.
    """
    with reading(folder) as connection:
        chosen = choose(read_collections(connection), collection)
        yield from every_record(connection, folder, chosen, rows, raw=raw)


def every_record(
    connection: sqlite3.Connection, folder: Path, collection: Collection, rows: int = 5000, *, raw: bool = False
) -> Iterator[RecordBatch]:
    """As `read_records`, with what is open already; raises ValueError and sqlite3.Error for what contradicts itself."""
    if index_of(folder, collection) is None and count_plain(connection, collection):
        for ids, metadatas, vectors in plain_records(connection, collection, rows):
            given = as_cosine_gives(vectors) if collection.space == "cosine" and not raw else vectors
            yield _batch(ids, given, metadatas)
    else:
        yield from records_of(connection, collection, VectorReader(connection, folder, collection, raw=raw), rows)


def records_of(
    connection: sqlite3.Connection, collection: Collection, vectors: VectorReader, rows: int = 5000
) -> Iterator[RecordBatch]:
    """As `every_record`, with a reader of vectors that is there already."""
    count = 0
    for ids, metadatas in _pages(connection, collection, rows):
        count += len(ids)
        yield _batch(ids, vectors.vectors(ids), metadatas)
    if count != len(vectors.places):
        raise ValueError(f"the index holds {len(vectors.places)} records, SQLite {count}")


def _batch(ids: list[str], vectors: Vectors, metadatas: list[Metadata]) -> RecordBatch:
    documents = [split_document(values) for values in metadatas]
    for key in set().union(*metadatas):
        if key.startswith("chroma:"):
            raise unknown_value(key)
    return RecordBatch(ids, vectors, documents, metadatas)


def read_ids(folder: Path, collection: str | None = None) -> list[str]:
    """The ids of all records, in the order of `collection.get`; raises as `read_records`, reads no vector."""
    with reading(folder) as connection:
        return ids_of(connection, choose(read_collections(connection), collection))


def ids_of(connection: sqlite3.Connection, collection: Collection) -> list[str]:
    """As `read_ids`, with what is open already."""
    return [record_id for ids, _ in _pages(connection, collection, 50_000, keys=()) for record_id in ids]


def read_origins(
    folder: Path, collection: str | None = None, rows: int = 50_000
) -> Iterator[tuple[list[str], list[Origin]]]:
    """The ids with their origins, in the order of `collection.get`; raises as `read_records`, reads no vector."""
    with reading(folder) as connection:
        chosen = choose(read_collections(connection), collection)
        for ids, metadatas in _pages(connection, chosen, rows, keys=RESERVED_KEYS):
            yield ids, [Origin.of(values) for values in metadatas]


def read_origins_among(
    folder: Path, collection: str | None, wanted: Iterable[str]
) -> tuple[int, dict[str, Origin]] | None:
    """How many records there are, and the origins of those of these ids that are among them, by looking them up.

    None where the log has a tail, so that all would have to be read; raises as `read_records`, reads no vector.
    """
    with reading(folder) as connection:
        chosen = choose(read_collections(connection), collection)
        if next(read_log(connection, chosen, chosen.metadata_seq), None) is not None:
            return None
        found = offsets_of(connection, chosen, wanted)
        metadatas = _metadata_where(connection, found, *_among(found), RESERVED_KEYS)
        return count_stored(connection, chosen), {
            found[offset]: Origin.of(values) for offset, values in metadatas.items()
        }


def count_stored(connection: sqlite3.Connection, collection: Collection) -> int:
    """How many records SQLite's tables hold: the log is not looked at."""
    query = "SELECT count(*) FROM embeddings WHERE segment_id = ?"
    return int(connection.execute(query, (collection.metadata_segment,)).fetchone()[0])


def offsets_of(
    connection: sqlite3.Connection, collection: Collection, ids: Iterable[str], schema: str = "main"
) -> dict[int, str]:
    """The offset ids, ascending, of those of these records that SQLite's tables hold, with their ids.

    Args:
        connection, collection: where.
        ids: of the records; each is looked up.
        schema: the name of the database, where another one is attached.
    """
    query = (
        f"SELECT id, embedding_id FROM {schema}.embeddings WHERE segment_id = ? "  # noqa: S608 - a name of ours
        "AND embedding_id IN (SELECT value FROM json_each(?)) ORDER BY id"
    )
    return dict(connection.execute(query, (collection.metadata_segment, orjson.dumps(list(ids)).decode())))


def records_at(connection: sqlite3.Connection, vectors: VectorReader, found: Mapping[int, str]) -> RecordBatch:
    """The records with these offset ids, which have these ids, as the tables hold them: the log is not looked at."""
    metadatas = _metadata_where(connection, found, *_among(found), None)
    ids = list(found.values())
    return _batch(ids, vectors.vectors(ids), list(metadatas.values()))


def is_readable(folder: Path, collection: str | None = None) -> bool:
    """Whether `read_records` knows all that this database uses; raises CorruptedError as it does, reads no vector."""
    try:
        with reading(folder) as connection:
            chosen = choose(read_collections(connection), collection)
            # Of the log only rows that may hold an object or lists of such; most are passed over in SQLite.
            suspects = connection.execute(
                "SELECT seq_id FROM embeddings_queue WHERE topic = ? "
                "AND (instr(metadata, ':{') OR instr(metadata, '[{') OR instr(metadata, '[['))",
                (chosen.topic,),
            ).fetchall()
            log_metadata(connection, [seq for (seq,) in suspects])
    except UnknownFormatError:
        return False
    return True


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
    if count_plain(connection, collection):
        yield from plain_pages(connection, collection, rows, keys)
        return
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
            if record_id in changes.changed:
                for change in _logged_metadata(connection, [changes.changed[record_id]], keys):
                    _merge(values, change)
            ids.append(record_id)
            kept.append(values)
        if ids:
            yield ids, kept
    added = iter(changes.added.items())
    while tail := list(islice(added, rows)):
        logged = _logged_metadata(connection, [seqs for _, seqs in tail], keys)
        new: list[Metadata] = []
        for _, seqs in tail:
            new.append({})
            for change in islice(logged, len(seqs)):
                _merge(new[-1], change)
        yield [record_id for record_id, _ in tail], new


# What most rows hold: one text or one whole number. SQLite joins those of a record to one JSON text, exactly, which is
# ten times as fast as a row of Python objects for each; all others are looked at one by one.
_PLAIN = (
    "typeof(key) = 'text' AND float_value IS NULL AND bool_value IS NULL AND "
    "(typeof(string_value) = 'text' AND int_value IS NULL OR string_value IS NULL AND typeof(int_value) = 'integer')"
)


def _stored_metadata(
    connection: sqlite3.Connection, offsets: list[int], keys: tuple[str, ...] | None
) -> list[Metadata]:
    """The metadata of the records with these ascending offset ids."""
    if keys == ():
        return [{} for _ in offsets]
    span = (offsets[0], offsets[-1])
    # Another collection's records may lie between ours; they are passed over.
    return list(_metadata_where(connection, offsets, "id BETWEEN ? AND ?", span, keys).values())


def _among(offsets: Iterable[int]) -> tuple[str, tuple[str]]:
    """The condition that a row of metadata is of one of these records, and its value."""
    return "id IN (SELECT value FROM json_each(?))", (orjson.dumps(list(offsets)).decode(),)


def _metadata_where(
    connection: sqlite3.Connection,
    offsets: Iterable[int],
    where: str,
    values: Sequence[int | str],
    keys: tuple[str, ...] | None,
) -> dict[int, Metadata]:
    """By offset id, the metadata of these records, among the rows that fulfil a condition."""
    by_offset: dict[int, Metadata] = {offset: {} for offset in offsets}
    if keys is not None:
        where += f" AND key IN ({','.join('?' * len(keys))})"
    arguments = (*values, *(keys or ()))
    joined = (
        "SELECT id, json_group_object(key, ifnull(string_value, int_value)) FROM embedding_metadata "  # noqa: S608 - no values in it
        f"WHERE {where} AND {_PLAIN} GROUP BY id"
    )
    for offset, text in connection.execute(joined, arguments):
        if offset in by_offset:
            by_offset[offset] = orjson.loads(text)
    others = (
        "SELECT id, key, string_value, int_value, float_value, bool_value FROM embedding_metadata "  # noqa: S608
        f"WHERE {where} AND NOT ({_PLAIN})"
    )
    for offset, key, *row in connection.execute(others, arguments):
        if offset in by_offset:
            by_offset[offset][key] = stored_value(key, *row)
    lists: dict[tuple[int, str], list[Any]] = {}
    elements = (
        "SELECT id, key, string_value, int_value, float_value, bool_value FROM embedding_metadata_array "  # noqa: S608
        f"WHERE {where} ORDER BY rowid"
    )
    for offset, key, *row in connection.execute(elements, arguments):
        if offset in by_offset:
            lists.setdefault((offset, key), []).append(stored_value(key, *row))
    for (offset, key), values_of_list in lists.items():
        if key in by_offset[offset] or len({type(value) for value in values_of_list}) != 1:
            raise ValueError(f"the metadata key {key!r} has a list beside another value, or one of several types")
        by_offset[offset][key] = values_of_list
    return by_offset


def _logged_metadata(
    connection: sqlite3.Connection, records: Sequence[Sequence[int]], keys: tuple[str, ...] | None
) -> Iterator[dict[str, Value | None]]:
    """The metadata of all log rows of these records, one after the other: nothing where no key is wanted."""
    seqs = [seq for seqs in records for seq in seqs]
    if keys == ():
        yield from ({} for _ in seqs)
        return
    for values in log_metadata(connection, seqs):
        yield values if keys is None else {key: value for key, value in values.items() if key in keys}


def _merge(values: Metadata, change: Mapping[str, Value | None]) -> None:
    for key, value in change.items():
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value
