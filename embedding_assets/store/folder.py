"""A folder of this machine as an object store sees it: regular files under names that can be keys.

Links are not followed and not written through: what is behind one is not the store's. A link, a pipe, a socket, a name
that is not text: each is a stranger, passed over by `walk` and named by `strangers`.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from embedding_assets.errors import StoreError

# How obstore names a file while it writes it; one that stays was left by a process that was killed.
_UNFINISHED = re.compile(r".+#\d+")


@dataclass(frozen=True)
class FoundFile:
    """A regular file: key, size in bytes, when it was last changed (UTC)."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Stranger:
    """Something that is no object: its path as text that can be printed, and what it is."""

    path: str
    reason: str


def walk(root: Path, prefix: str) -> Iterator[FoundFile]:
    """The files below `root/prefix`; in no order."""
    for item in _everything(root, prefix):
        if isinstance(item, FoundFile):
            yield item


def strangers(root: Path, prefix: str) -> list[Stranger]:
    """What is below `root/prefix` and cannot be an object."""
    return [item for item in _everything(root, prefix) if isinstance(item, Stranger)]


def folders(root: Path, prefix: str) -> list[str]:
    """Names of the folders directly below `root/prefix`, sorted."""
    with _scan(root / prefix) as entries:
        return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and not _why_no_key(e.name))


def is_file(root: Path, key: str) -> bool:
    """Whether a key is a regular file that is reached through no link."""
    if not _is_key(key):
        return False
    try:
        return stat.S_ISREG((root / key).lstat().st_mode) and not _through_link(root, key)
    except (FileNotFoundError, NotADirectoryError):
        return False


def require_own(root: Path, key: str) -> None:
    """StoreError where a key is reached through a link, or a folder or a link stands in its place."""
    if not _is_key(key):
        raise StoreError(repr(key), "is not the name of an object", "Names have parts that are neither empty nor dots.")
    path = root / key
    reached = _through_link(root, key)
    if reached is not None or path.is_symlink():
        raise StoreError(
            str(path),
            f"is reached through the link {reached or path}",
            "Put the folder itself in place of the link; nothing is written or deleted through one.",
        )
    if path.is_dir():
        raise StoreError(str(path), "is a folder where a file belongs", "Move that folder away.")


def copy(root: Path, source: str, target: str) -> None:
    """Copy a file; the target appears whole or not at all."""
    path = root / target
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}#{secrets.randbits(32)}")
    try:
        shutil.copyfile(root / source, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def delete(root: Path, key: str) -> None:
    """Delete a file, and the folders above it that are then empty; one that is gone is no error."""
    try:
        (root / key).unlink()
    except (FileNotFoundError, NotADirectoryError):
        return
    for parent in (root / key).parents:
        if parent == root:
            return
        try:
            parent.rmdir()
        except OSError:  # not empty, or somebody else has removed it
            return


def _everything(root: Path, prefix: str) -> Iterator[FoundFile | Stranger]:
    base = prefix.strip("/")
    if base and _through_link(root, f"{base}/x") is not None:
        yield Stranger(_printable(str(root / base)), "is reached through a link")
        return
    pending = [base]
    while pending:
        folder = pending.pop()
        with _scan(root / folder) as entries:
            for entry in entries:
                key = f"{folder}/{entry.name}".lstrip("/")
                reason = _why_no_key(entry.name)
                try:
                    if reason is None and entry.is_symlink():
                        reason = "is a link"
                    if reason is not None:
                        yield Stranger(_printable(str(root / folder / entry.name)), reason)
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(key)
                    elif not entry.is_file(follow_symlinks=False):
                        yield Stranger(_printable(str(root / key)), "is neither a file nor a folder")
                    elif not _UNFINISHED.fullmatch(entry.name):
                        found = entry.stat(follow_symlinks=False)
                        at = datetime.fromtimestamp(found.st_mtime, timezone.utc)
                        yield FoundFile(key, found.st_size, at)
                except FileNotFoundError:  # deleted since
                    continue


class _scan:
    """The entries of a folder; none where it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        try:
            self._entries = os.scandir(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return iter(())
        return self._entries

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_entries"):
            self._entries.close()


def _why_no_key(name: str) -> str | None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    return None if name.isprintable() else "has a name with characters that cannot be printed"


def _is_key(key: str) -> bool:
    return not any(part in ("", ".", "..") for part in key.split("/"))


def _through_link(root: Path, key: str) -> Path | None:
    """The first link among the folders above a key, the store's own folder not counted."""
    path = root
    for part in key.split("/")[:-1]:
        path = path / part
        if path.is_symlink():
            return path
    return None


def _printable(path: str) -> str:
    return path if path.isprintable() else ascii(path)[1:-1]
