"""Scratch folders: the one place that makes them, and removes those that killed processes left behind.

A folder is named by its purpose, host and process. Beside it is a lock file, which its process holds (`flock`) for as
long as it lives: the system lets go of it whatever ends the process. So a folder whose lock can be had is dead.
The next start that uses the same place removes it, and so does `prune`. Folders of other hosts are never touched: on
a shared disk a lock may not be seen from here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import socket
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedding_assets.errors import LocalDiskError
from embedding_assets.local_disk import local_trouble

_PREFIX = "embedding-assets-"
_LOCK = ".lock"
_HOST = re.sub(r"[^A-Za-z0-9-]", "_", socket.gethostname())[:60] or "_"
_NAME = re.compile(re.escape(_PREFIX) + r"[a-z-]+\.(?P<host>[\w-]+)\.\d+\.[0-9a-f]{8}" + re.escape(_LOCK))
_swept: set[tuple[int, Path]] = set()  # process, place: a fork is a start of its own


@dataclass(frozen=True)
class DeadFolder:
    """A scratch folder of a process of this host that has ended, and how many bytes come free with it."""

    path: Path
    size: int


class ScratchFolder:
    """A new, empty folder, removed with all that is in it at `remove()`, or at the latest when the program ends.

    Use it in a `with` statement, which gives its path. What this machine refuses to whoever works in it (a full disk,
    for example) leaves the statement as a LocalDiskError.
    """

    def __init__(self, purpose: str, within: Path | None = None, *, sweep: bool = True) -> None:
        """Make it, and remove what dead processes left in the same place, once in a process.

        Args:
            purpose: a word or two in lower-case letters and hyphens, for who looks at the disk.
            within: an existing folder; None: the system's folder for temporary files.
            sweep: whether to remove them; not where a dry run may follow.

        Raises:
            LocalDiskError: the disk has no room for it, or is read-only.
        """
        home = (within or _temporary()).absolute()
        if sweep and not any(part.startswith(_PREFIX) for part in home.parts):  # what is within another goes with it
            _sweep(home)
        try:
            self.path, self._held = _locked(home, purpose)
        except OSError as error:
            raise local_trouble(error, home) or error from None
        self._end = weakref.finalize(self, _remove, self.path, self._held, os.getpid())
        try:
            self.path.mkdir(mode=0o700)
        except OSError as error:
            self.remove()
            raise local_trouble(error, home) or error from None

    def remove(self) -> None:
        """Remove it now; what cannot be removed is left to the next start."""
        self._end()

    def keep(self) -> None:
        """Leave the folder to the caller, who owns what it is within."""
        if self._end.detach() is not None:
            _lock_of(self.path).unlink(missing_ok=True)
            os.close(self._held)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # Asked first: what it holds is why the disk is full.
        trouble = local_trouble(error, self.path.parent) if error else None
        self.remove()
        if trouble is not None:
            raise trouble from error


def dead_folders(home: Path | None = None) -> list[DeadFolder]:
    """The folders that dead processes of this host left in a place (None: the system's); nothing is removed."""
    return [dead for dead in _dead(home or Path(tempfile.gettempdir())) if dead.path.exists()]


def remove_dead(home: Path | None = None) -> list[DeadFolder]:
    """Remove the folders that dead processes of this host left in a place (None: the system's)."""
    removed = []
    for dead in _dead(home or Path(tempfile.gettempdir())):
        was_there = dead.path.exists()
        shutil.rmtree(dead.path, ignore_errors=True)
        if not os.path.lexists(dead.path):
            _lock_of(dead.path).unlink(missing_ok=True)
            removed += [dead] if was_there else []
    return removed


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # Python has tried to write to each of them
        raise LocalDiskError(
            "the folder for temporary files",
            f"cannot be written ({error.strerror or error})",
            "Make room in one of these, or let TMPDIR name a folder on another disk.",
        ) from None


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _sweep(home: Path) -> None:
    if (os.getpid(), home) not in _swept:
        _swept.add((os.getpid(), home))
        with contextlib.suppress(OSError):
            remove_dead(home)


def _locked(home: Path, purpose: str) -> tuple[Path, int]:
    """A name for a new folder, and the file descriptor that holds its lock."""
    while True:
        folder = home / f"{_PREFIX}{purpose}.{_HOST}.{os.getpid()}.{secrets.token_hex(4)}"
        lock = _lock_of(folder)
        held = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody who looks for dead folders took it before us: another name
            lock.unlink(missing_ok=True)
        except OSError:  # a disk without locks: there nobody takes a folder for dead
            return folder, held
        else:
            if _is_at(held, lock):
                return folder, held
        os.close(held)


def _is_at(held: int, lock: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(held), lock.lstat())
    except OSError:
        return False


def _dead(home: Path) -> Iterator[DeadFolder]:
    """Each dead folder, whose lock is held until the next is asked for."""
    try:
        locks = sorted(path for path in home.iterdir() if path.name.endswith(_LOCK))
    except OSError:
        return
    for lock in locks:
        name = _NAME.fullmatch(lock.name)
        if name is None or name["host"] != _HOST:
            continue
        try:
            held = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # removed at this moment, or another user's
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(held, lock):
                folder = lock.with_name(lock.name.removesuffix(_LOCK))
                yield DeadFolder(folder, _size(folder))
        except OSError:  # its process lives, or the disk has no locks
            continue
        finally:
            os.close(held)


def _size(folder: Path) -> int:
    """Bytes of the files that have no other name elsewhere."""
    total = 0
    for base, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                stat = os.lstat(os.path.join(base, name))
                total += stat.st_size if stat.st_nlink == 1 else 0
    return total


def _remove(folder: Path, held: int, owner: int) -> None:
    if os.getpid() != owner:  # a fork that ends is not the end of it
        return
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.lexists(folder):
        _lock_of(folder).unlink(missing_ok=True)
    os.close(held)
