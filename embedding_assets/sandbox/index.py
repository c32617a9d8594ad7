"""The index of files, batches and rules: one SQLite database, so that a killed service comes back as it was."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedding_assets.sandbox.state import BATCH_JSON, FILE_JSON, TERMINAL, BatchRecord, FileRecord

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, ended INTEGER NOT NULL, record TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS unfinished ON batches (ended);
CREATE TABLE IF NOT EXISTS faults (
    id TEXT PRIMARY KEY, seq INTEGER NOT NULL, rule TEXT NOT NULL, matched INTEGER NOT NULL
);
"""


@dataclass(frozen=True)
class Page:
    """A page of batches, newest first, and whether older ones follow."""

    batches: tuple[BatchRecord, ...]
    has_more: bool


@dataclass(frozen=True)
class FaultRow:
    """A rule as it is stored: its JSON, and how many times it has matched."""

    id: str
    rule: str
    matched: int


class Index:
    """All reads and writes go through one connection, one at a time; each takes far less than a millisecond."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def add_file(self, record: FileRecord) -> None:
        """Add a file whose content is in place."""
        with self._transaction() as connection:
            _insert_file(connection, record)

    def file(self, file_id: str) -> FileRecord | None:
        """One file, or None."""
        with self._lock:
            row = self._connection.execute("SELECT record FROM files WHERE id = ?", (file_id,)).fetchone()
        return None if row is None else FILE_JSON.validate_json(row[0])

    def files(self) -> list[FileRecord]:
        """All files, oldest first."""
        with self._lock:
            rows = self._connection.execute("SELECT record FROM files ORDER BY seq").fetchall()
        return [FILE_JSON.validate_json(row[0]) for row in rows]

    def remove_file(self, file_id: str) -> bool:
        """Forget a file; False if it was not known."""
        with self._transaction() as connection:
            return connection.execute("DELETE FROM files WHERE id = ?", (file_id,)).rowcount > 0

    def add_batch(self, record: BatchRecord) -> None:
        """Add a new batch."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO batches (id, ended, record) VALUES (?, ?, ?)",
                (record.id, int(record.ended), BATCH_JSON.dump_json(record)),
            )

    def batch(self, batch_id: str) -> BatchRecord | None:
        """One batch, or None."""
        with self._lock:
            row = self._connection.execute("SELECT record FROM batches WHERE id = ?", (batch_id,)).fetchone()
        return None if row is None else BATCH_JSON.validate_json(row[0])

    def page(self, limit: int, after: str | None) -> Page | None:
        """A page of batches, newest first, that begins after the batch `after`; None if there is no such batch."""
        with self._lock:
            before = None
            if after is not None:
                row = self._connection.execute("SELECT seq FROM batches WHERE id = ?", (after,)).fetchone()
                if row is None:
                    return None
                before = row[0]
            rows = self._connection.execute(
                "SELECT record FROM batches WHERE ?1 IS NULL OR seq < ?1 ORDER BY seq DESC LIMIT ?2",
                (before, limit + 1),
            ).fetchall()
        return Page(tuple(BATCH_JSON.validate_json(row[0]) for row in rows[:limit]), len(rows) > limit)

    def unfinished(self) -> list[BatchRecord]:
        """The batches that have not ended, oldest first."""
        with self._lock:
            rows = self._connection.execute("SELECT record FROM batches WHERE ended = 0 ORDER BY seq").fetchall()
        return [BATCH_JSON.validate_json(row[0]) for row in rows]

    def change_batch(
        self, batch_id: str, change: Callable[[BatchRecord], BatchRecord], files: Sequence[FileRecord] = ()
    ) -> BatchRecord:
        """Change a batch, and add the files it wrote, in one transaction; answer what it became.

        `change` sees the batch as it is at that moment: a cancellation that came in between is not overwritten. A
        batch that has ended is left as it is.
        """
        with self._transaction() as connection:
            row = connection.execute("SELECT record FROM batches WHERE id = ?", (batch_id,)).fetchone()
            if row is None:
                raise KeyError(batch_id)
            before = BATCH_JSON.validate_json(row[0])
            if before.status in TERMINAL:
                return before
            after = change(before)
            connection.execute(
                "UPDATE batches SET ended = ?, record = ? WHERE id = ?",
                (int(after.ended), BATCH_JSON.dump_json(after), batch_id),
            )
            for record in files:
                _insert_file(connection, record)
            return after

    def fault_rows(self) -> list[FaultRow]:
        """The rules in the order in which they were given."""
        with self._lock:
            rows = self._connection.execute("SELECT id, rule, matched FROM faults ORDER BY seq").fetchall()
        return [FaultRow(*row) for row in rows]

    def write_faults(self, rows: Sequence[FaultRow]) -> None:
        """Replace all rules."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM faults")
            connection.executemany(
                "INSERT INTO faults (id, seq, rule, matched) VALUES (?, ?, ?, ?)",
                [(row.id, seq, row.rule, row.matched) for seq, row in enumerate(rows)],
            )


def _insert_file(connection: sqlite3.Connection, record: FileRecord) -> None:
    connection.execute("INSERT INTO files (id, record) VALUES (?, ?)", (record.id, FILE_JSON.dump_json(record)))
