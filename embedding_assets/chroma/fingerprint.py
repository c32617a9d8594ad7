"""The gate of everything in this room that reads ChromaDB's files without ChromaDB.

The format is ChromaDB's own business and may change with any version. So the direct readers work only on databases
whose migrations and tables are, to the letter, those that chromadb 1.5.9 creates; on any other the caller goes
through the public API instead.
"""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

from embedding_assets.chroma.sqlite_reader import UnknownFormatError, connect

CHROMADB_VERSION = "1.5.9"
FINGERPRINT = "4f78dd5ad018571814bdd1cebb55bd2aa50d40564127a858a57844c37146cea6"


def fingerprint(connection: sqlite3.Connection) -> str:
    """SHA-256, in hexadecimal, of the migrations' rows and of the tables' definitions.

    Raises:
        ValueError: it is no SQLite database, or has no table of migrations.
    """
    hasher = hashlib.sha256()
    try:
        for query in (
            "SELECT dir, version, filename, sql, hash FROM migrations ORDER BY dir, version",
            "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name",
        ):
            for row in connection.execute(query):
                hasher.update(repr(tuple(row)).encode())
            hasher.update(b"\n")
    except sqlite3.Error as error:
        raise ValueError(f"its migrations cannot be read: {error}") from error
    return hasher.hexdigest()


def is_known(connection: sqlite3.Connection) -> bool:
    """Whether the database is, by its fingerprint, of the one format that the direct readers know."""
    try:
        return fingerprint(connection) == FINGERPRINT
    except ValueError:
        return False


def known_format(folder: Path) -> bool:
    """Whether the direct readers may read the database in this folder; False for what is no database at all."""
    try:
        connection = connect(folder)
    except ValueError:
        return False
    try:
        return is_known(connection)
    finally:
        connection.close()


def require_known(connection: sqlite3.Connection, folder: Path) -> None:
    """Raise UnknownFormatError unless `is_known`."""
    if not is_known(connection):
        raise UnknownFormatError(
            str(folder),
            f"its tables or migrations are not those of chromadb {CHROMADB_VERSION}",
            "It is read through chromadb instead",
        )
