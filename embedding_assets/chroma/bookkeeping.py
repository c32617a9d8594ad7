"""What a program that only opened a database leaves as it was, and no record shows: ChromaDB's own bookkeeping."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from embedding_assets.chroma.sqlite_reader import SQLITE_FILE
from embedding_assets.scratch import ScratchFolder


def check_bookkeeping(folder: Path) -> list[str]:
    """What is wrong with the tables beside the records, in a database of the known format that nobody opened here yet.

    The folder stays as it is: SQLite asks for the right to write when it checks a full-text index, and gets a copy.
    """
    with ScratchFolder("bookkeeping", folder.parent) as scratch:
        copy = Path(shutil.copyfile(folder / SQLITE_FILE, scratch / SQLITE_FILE))
        try:
            with closing(sqlite3.connect(copy)) as connection:
                return list(_problems(connection))
        except (sqlite3.Error, ValueError) as error:
            return [f"its bookkeeping cannot be read: {error}"]


def _problems(connection: sqlite3.Connection) -> Iterator[str]:
    # A row at each open, and none ever goes.
    count, first, last = connection.execute("SELECT count(*), min(id), max(id) FROM acquire_write").fetchone()
    if (first, last) != (1, count):
        yield f"the table acquire_write has {count} rows from {first} to {last}"
    rows = connection.execute("SELECT config_json_str FROM embeddings_queue_config").fetchall()
    if len(rows) != 1 or not isinstance(json.loads(rows[0][0]), dict):
        yield f"the table embeddings_queue_config has {len(rows)} rows"
    try:
        # More than a comparison of counts: each term, the sizes and the totals against the texts.
        connection.execute(
            "INSERT INTO embedding_fulltext_search (embedding_fulltext_search) VALUES ('integrity-check')"
        )
    except sqlite3.DatabaseError as error:
        yield f"the full-text index: {error}"
    finally:
        connection.rollback()
