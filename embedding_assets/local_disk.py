"""What this machine refuses (a full disk, a used-up quota, too many open files), as an error that says what to do.

Whoever works in a folder of this machine meets the same few refusals, as exceptions of Python, SQLite, Arrow and
chromadb, or as words that another process left. None of them says anything about data: nothing is damaged by them.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import sqlite3
import tempfile
from pathlib import Path

from embedding_assets.errors import EmbeddingAssetsError, LocalDiskError

_ROOM = "Make room there, or {elsewhere}; the next run goes on from where this one stopped."
_REPAIR = "Make it writable, or {elsewhere}; the next run goes on from where this one stopped."
_LIMIT = "Raise the limit (`ulimit -n`) or run less at once; the next run goes on from where this one stopped."
# What the system, SQLite and the object store's client say, by the system's number of it.
_SIGNS = {
    errno.ENOSPC: "No space left|disk is full",
    errno.EDQUOT: "[Qq]uota exceeded",
    errno.EROFS: "Read-only file system|readonly database",
    errno.EFBIG: "File too large",
    errno.EMFILE: "Too many open files",
    errno.ENFILE: "Too many open files in system",
    errno.EIO: "disk I/O error|Input/output error",
}
_SIGN = {number: re.compile(rf"{words}|\[[Ee]rrno {number}\]|os error {number}\)") for number, words in _SIGNS.items()}


def refused(error: BaseException | str) -> int | None:
    """The system's number of what this machine refuses, if that is what an error or a message is about."""
    if isinstance(error, EmbeddingAssetsError):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _SIGN else None
    if isinstance(error, (str, OSError, sqlite3.Error)):
        # The last that fits: "in system" is more particular.
        return next((number for number in reversed(_SIGN) if _SIGN[number].search(str(error))), None)
    return None


def local_trouble(error: BaseException | str, folder: Path, setting: str = "") -> LocalDiskError | None:
    """The error of ours for what this machine refuses; None where an error is about something else.

    Args:
        error: what was raised, or what another process said.
        folder: what was worked in, unless the error itself names a file.
        setting: the variable that names this folder.
    """
    number = refused(error)
    if number is None:
        return None
    if isinstance(error, OSError) and isinstance(error.filename, str) and os.path.isabs(error.filename):
        folder = Path(error.filename).parent
    if not setting:
        setting = "TMPDIR" if folder.is_relative_to(tempfile.gettempdir()) else ""
    elsewhere = f"let {setting} name a folder on another disk" if setting else "use a folder on another disk"
    reason, remedy = _words(number, folder)
    return LocalDiskError(f"folder {folder}", reason, remedy.format(elsewhere=elsewhere))


def full_disk(folder: Path, needed: int) -> LocalDiskError | None:
    """An error where a disk has less room than so many bytes; None where it has more."""
    free, _ = room(folder)
    if free >= needed:
        return None
    found = local_trouble(OSError(errno.ENOSPC, ""), folder)
    assert found is not None  # noqa: S101  (it is one of the signs)
    return LocalDiskError(found.subject, f"{found.reason}; {needed:,} bytes are needed", found.remedy)


def room(folder: Path) -> tuple[int, int]:
    """How many bytes, and how many more files, the disk of a folder has room for; the folder need not be there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    at = os.statvfs(folder)
    return at.f_bavail * at.f_frsize, at.f_favail if at.f_files else 1 << 62


def _words(number: int, folder: Path) -> tuple[str, str]:
    if number == errno.ENOSPC:
        free, files = room(folder)
        if not files:
            return "its disk has no room for another file (no inode is free)", _ROOM
        return f"its disk is full ({free:,} bytes are free)", _ROOM
    if number == errno.EDQUOT:
        return "the disk quota of this user is used up", _ROOM
    if number == errno.EROFS:
        return "its file system is read-only", _REPAIR
    if number == errno.EFBIG:
        return "a file would be larger than it may be (`ulimit -f`, or a limit of the file system)", _ROOM
    if number == errno.EIO:
        return "its disk fails (input/output error)", "Check the disk, or {elsewhere}; the next run tries again."
    if number == errno.EMFILE:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"cannot be used: this process has too many open files (its limit is {most:,})", _LIMIT
    return "cannot be used: too many files are open on this machine", _LIMIT
