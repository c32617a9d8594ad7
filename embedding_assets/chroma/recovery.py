"""Finishes, in a copy, what was left behind in SQLite's journals: a `-wal` is taken in, a `-journal` rolled back.

SQLite does both by itself when it opens a file, and passes over what is damaged without a word; so that is looked for.
"""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from embedding_assets.chroma.sqlite_reader import SQLITE_FILE

# https://www.sqlite.org/fileformat2.html, sections 3 and 4
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_JOURNAL_HEADER = 28
_WAL_MAGIC = 0x377F0682  # the last bit says that checksums are big-endian
_WAL_HEADER, _FRAME_HEADER = 32, 24
_LEAST_PAGE, _MOST_PAGE = 512, 65_536


def recover(folder: Path) -> bool:
    """Bring the database in this folder, a copy of the caller's own, to the end of its last transaction.

    Returns:
        Whether there was anything to recover.

    Raises:
        ValueError: a journal or the database is damaged, with the reason.
        sqlite3.OperationalError: it cannot be recovered just now, as on a full disk.
    """
    wal, journal = (folder / f"{SQLITE_FILE}{suffix}" for suffix in ("-wal", "-journal"))
    left = [path for path in (wal, journal) if path.exists() and path.stat().st_size]
    if not left:
        return False
    problem = (_wal_problem(wal) if wal in left else "") or (_journal_problem(journal) if journal in left else "")
    if problem:
        raise ValueError(problem)
    (folder / f"{SQLITE_FILE}-shm").unlink(missing_ok=True)  # an index of the -wal, made anew
    try:
        with closing(sqlite3.connect(folder / SQLITE_FILE)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    except sqlite3.OperationalError:
        raise
    except sqlite3.Error as error:
        raise ValueError(f"{SQLITE_FILE} cannot be recovered from what {left[0].name} holds: {error}") from error
    for path in (wal, journal):
        path.unlink(missing_ok=True)
    return True


def _journal_problem(path: Path) -> str:
    with path.open("rb") as file:
        header = file.read(_JOURNAL_HEADER)
    # Zeros at the head are how SQLite says that the transaction was committed.
    if header.startswith(_JOURNAL_MAGIC) or not any(header):
        return ""
    return f"{path.name} was left behind and is damaged: its head is no journal's"


def _wal_problem(path: Path) -> str:
    """Why not all transactions that were committed to a -wal can be recovered; empty if they can."""
    content = path.read_bytes()
    if len(content) < _WAL_HEADER:
        return f"{path.name} was left behind and is damaged: it has {len(content)} bytes"
    magic, _, page = struct.unpack_from(">III", content)
    order = ">" if magic & 1 else "<"
    sums = _checksum(order, content[: _WAL_HEADER - 8], (0, 0))
    sound = magic & ~1 == _WAL_MAGIC and _LEAST_PAGE <= page <= _MOST_PAGE
    if not sound or sums != struct.unpack_from(">II", content, _WAL_HEADER - 8):
        return f"{path.name} was left behind and is damaged: its head is no log's"
    salts, whole = content[16:24], True
    for number, start in enumerate(range(_WAL_HEADER, len(content) - _FRAME_HEADER - page + 1, _FRAME_HEADER + page)):
        header = content[start : start + _FRAME_HEADER]
        if whole:
            sums = _checksum(order, header[:8], sums)
            sums = _checksum(order, content[start + _FRAME_HEADER : start + _FRAME_HEADER + page], sums)
            whole = header[8:16] == salts and sums == struct.unpack_from(">II", header, 16)
        # Frames of an older round, and those of a transaction that was not committed, are nobody's loss.
        if not whole and header[8:16] == salts and struct.unpack_from(">I", header, 4)[0]:
            return f"{path.name} was left behind and is damaged: the transaction of its frame {number + 1} is lost"
    return ""


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
