"""What is wrong with `chroma.sqlite3`: the file itself, its tables against each other, and its log."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import numpy as np

from embedding_assets.chroma.log_reader import ADD, UPSERT, LogRow, log_metadata, log_vectors, read_log
from embedding_assets.chroma.sqlite_reader import Collection, UnknownFormatError
from embedding_assets.records import slices

_ROWS = 1000  # of the log, looked at together

TABLES = (
    "collection_metadata",
    "collections",
    "embedding_fulltext_search",
    "embedding_metadata",
    "embeddings",
    "embeddings_queue",
    "max_seq_id",
    "migrations",
    "segments",
)

# Each finds rows that ChromaDB never writes; the first column of the first row is a count.
_RULES = {
    "records whose id is no text, or no offset or log number": """
        SELECT count(*) FROM embeddings WHERE typeof(embedding_id) != 'text' OR embedding_id = ''
        OR typeof(seq_id) != 'integer' OR seq_id < 1 OR id < 1 OR id >= 4294967296""",
    "metadata of records that are missing": """
        SELECT count(*) FROM embedding_metadata WHERE id IS NULL OR id NOT IN (SELECT id FROM embeddings)""",
    "list metadata of records that are missing": """
        SELECT count(*) FROM embedding_metadata_array WHERE id NOT IN (SELECT id FROM embeddings)""",
    "metadata without exactly one value of its type": """
        SELECT count(*) FROM embedding_metadata WHERE typeof(key) != 'text' OR key = '' OR
        (string_value IS NOT NULL) + (int_value IS NOT NULL) + (float_value IS NOT NULL) + (bool_value IS NOT NULL) != 1
        OR typeof(string_value) NOT IN ('text', 'null') OR typeof(int_value) NOT IN ('integer', 'null')
        OR typeof(float_value) NOT IN ('real', 'null') OR (bool_value IS NOT NULL AND bool_value NOT IN (0, 1))""",
    "documents that the full-text table lacks or has otherwise": """
        SELECT count(*) FROM embedding_metadata m LEFT JOIN embedding_fulltext_search_content c ON c.id = m.id
        WHERE m.key = 'chroma:document' AND m.string_value IS NOT c.c0""",
    "full-text rows of documents that are missing": """
        SELECT count(*) FROM embedding_fulltext_search_content c LEFT JOIN embedding_metadata m
        ON m.id = c.id AND m.key = 'chroma:document' WHERE m.id IS NULL""",
    "full-text rows whose size is missing, or the reverse": """
        SELECT (SELECT count(*) FROM embedding_fulltext_search_content c
        LEFT JOIN embedding_fulltext_search_docsize d ON d.id = c.id WHERE d.id IS NULL)
        + (SELECT count(*) FROM embedding_fulltext_search_docsize d
        LEFT JOIN embedding_fulltext_search_content c ON d.id = c.id WHERE c.id IS NULL)""",
    "collections whose database is missing": """
        SELECT count(*) FROM collections WHERE database_id NOT IN (SELECT id FROM databases)""",
    "databases whose tenant is missing": """
        SELECT count(*) FROM databases WHERE tenant_id NOT IN (SELECT id FROM tenants)""",
    "log rows whose time is none": """
        SELECT count(*) FROM embeddings_queue WHERE datetime(created_at) IS NULL""",
    "missing tenants or databases": """
        SELECT (SELECT count(*) = 0 FROM tenants) + (SELECT count(*) = 0 FROM databases)""",
}


def check_file(connection: sqlite3.Connection) -> Iterator[str]:
    """SQLite's own check, and the tables without which it is no ChromaDB database; for any format."""
    try:
        for (line,) in connection.execute("PRAGMA integrity_check(5)"):
            if line != "ok":
                yield f"SQLite: {line}"
        present = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        yield f"SQLite: {error}"
        return
    missing = [name for name in TABLES if name not in present]
    if missing:
        yield f"it has no table {', '.join(missing)}"


def check_tables(connection: sqlite3.Connection) -> Iterator[str]:
    """The tables against each other; for the known format."""
    for what, query in _RULES.items():
        number = connection.execute(query).fetchone()[0]
        if number:
            yield f"{number} {what}"
    try:
        yield from _check_fulltext(connection)
    except sqlite3.Error as error:
        yield f"the full-text index cannot be read: {error}"
    last = connection.execute("SELECT max(seq_id) FROM embeddings_queue").fetchone()[0] or 0
    seen = connection.execute(
        "SELECT max(seq_id) FROM max_seq_id JOIN segments ON segment_id = id WHERE typeof(seq_id) = 'integer'"
    ).fetchone()[0]
    if (seen or 0) > last:
        # ChromaDB keeps the last row for ever. Without it row numbers start again, and writes are silently dropped.
        yield f"the log ends at {last}, but was applied up to {seen}"


def check_records(connection: sqlite3.Connection, collection: Collection, indexed_up_to: int) -> Iterator[str]:
    """One collection's records against its log; for the known format."""
    total, distinct, greatest = connection.execute(
        "SELECT count(*), count(DISTINCT seq_id), max(seq_id) FROM embeddings WHERE segment_id = ?",
        (collection.metadata_segment,),
    ).fetchone()
    if distinct != total:
        yield f"collection {collection.name!r}: two records were written by one log row"
    if (greatest or 0) > collection.metadata_seq:
        yield (
            f"collection {collection.name!r}: a record of log row {greatest}, "
            f"but the log was applied up to {collection.metadata_seq}"
        )
    if total and collection.dimension is None:
        yield f"collection {collection.name!r} has records but no dimension"
    lost = connection.execute(
        "SELECT count(*) FROM embeddings e LEFT JOIN embeddings_queue q ON q.seq_id = e.seq_id AND q.topic = ? "
        "AND q.id = e.embedding_id WHERE e.segment_id = ? AND e.seq_id > ? AND q.seq_id IS NULL",
        (collection.topic, collection.metadata_segment, indexed_up_to),
    ).fetchone()[0]
    if lost:
        yield f"collection {collection.name!r}: {lost} records whose log row is missing before it reached the index"


def check_log(connection: sqlite3.Connection, collection: Collection) -> Iterator[str]:
    """Every row of the collection's log that is still there; for the known format."""
    rows = list(read_log(connection, collection, 0))
    try:
        for some in slices(len(rows), _ROWS):
            _check_log_rows(connection, collection, rows[some])
    except ValueError as error:
        yield f"collection {collection.name!r}: {error}"


def _check_log_rows(connection: sqlite3.Connection, collection: Collection, rows: list[LogRow]) -> None:
    with_vector = [row.seq for row in rows if row.has_vector]
    if with_vector and collection.dimension is None:
        raise ValueError("the log has vectors, the collection no dimension")
    finite = np.isfinite(log_vectors(connection, with_vector, collection.dimension or 0)).all(axis=1)
    if not finite.all():
        raise ValueError(f"log row {with_vector[int(np.argmin(finite))]} holds a vector that is not finite")
    bare = [row.seq for row in rows if not row.has_vector and row.operation in (ADD, UPSERT)]
    if bare:
        raise ValueError(f"log row {bare[0]} adds a record without a vector")
    try:
        log_metadata(connection, [row.seq for row in rows])
    except UnknownFormatError:
        for row in rows:  # lists are beyond the direct readers, but no damage
            with contextlib.suppress(UnknownFormatError):
                log_metadata(connection, [row.seq])


def _check_fulltext(connection: sqlite3.Connection) -> Iterator[str]:
    """Walk the whole full-text index, which SQLite's own check does only since 3.44, and count its entries."""
    connection.execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, embedding_fulltext_search, row)")
    indexed = connection.execute("SELECT total(cnt) FROM temp.terms").fetchone()[0]
    expected = connection.execute(
        "SELECT total(max(length(c0) - 2, 0)) FROM embedding_fulltext_search_content"  # trigrams
    ).fetchone()[0]
    if indexed != expected:
        yield f"the full-text index has {indexed:.0f} entries, its documents have {expected:.0f}"
