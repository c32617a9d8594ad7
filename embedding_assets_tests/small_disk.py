"""A real file system of a few megabytes, which can be filled to the last byte, be out of names, or be read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_PAGE = 4096


@dataclass(frozen=True)
class SmallDisk:
    """Where it is mounted."""

    path: Path

    def free(self) -> int:
        """Bytes that can still be written."""
        at = os.statvfs(self.path)
        return at.f_bavail * at.f_frsize

    def fill(self, leaving: int = 0) -> None:
        """Fill it up, but for so many bytes, rounded to pages."""
        with (self.path / ".filler").open("ab") as filler:
            filler.write(bytes(max(0, self.free() - leaving)))

    def use_up_names(self) -> None:
        """Leave no room for another file or folder, however small."""
        names = self.path / ".names"
        names.mkdir(exist_ok=True)
        for number in range(os.statvfs(self.path).f_favail):
            (names / str(number)).touch()

    def read_only(self, so: bool = True) -> None:
        """Let nobody write to it, or again."""
        subprocess.run(["mount", "-o", f"remount,{'ro' if so else 'rw'}", self.path], check=True)

    def relieve(self) -> None:
        """As it was at first."""
        self.read_only(False)
        (self.path / ".filler").unlink(missing_ok=True)
        names = self.path / ".names"
        for one in names.iterdir() if names.is_dir() else ():
            one.unlink()


@contextmanager
def small_disk(path: Path, size: str = "24m", names: int = 1000) -> Iterator[SmallDisk]:
    """Mount one; skips the test where this user may not."""
    path.mkdir(parents=True)
    asked = ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={names}", "none", str(path)]
    try:
        mounted = subprocess.run(asked, check=False, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a file system needs a privilege that this user lacks")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
