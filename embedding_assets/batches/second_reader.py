"""A second process that reads numbers while this one reads other lines and writes records."""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import numpy as np

from embedding_assets.batches.numerals import READY, SHARES, Share, memory_size
from embedding_assets.records import Vectors

_PATIENCE: Final = 30.0  # seconds for what takes less than a millisecond


class SecondReader:
    """Reads arrays of numbers in a process of its own: a thread would not help, as simdjson keeps Python's lock.

    Nothing hangs on it: it may be late, die or hang, and what it has not read is left to the caller.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._free: list[int] = []  # none before it is ready
        self._read: set[int] = set()
        # In memory alone: a file that finds the disk full when it is written to would end this process.
        descriptor = os.memfd_create("numbers")
        try:
            os.ftruncate(descriptor, memory_size(dimensions))
            memory = mmap.mmap(descriptor, memory_size(dimensions))
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                [sys.executable, "-m", "embedding_assets.batches.numerals", str(descriptor), str(dimensions)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=[descriptor],
                env=_environment(),
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        self._shares = [Share(memory, number, dimensions) for number in range(SHARES)]
        self._ear = select.poll()
        if self._process.stdout is not None:
            self._ear.register(self._process.stdout, select.POLLIN)

    @property
    def pid(self) -> int | None:
        """Of its process; None once that is given up or ended."""
        return self._process.pid if self._process is not None else None

    def has_room(self) -> bool:
        """Whether it takes anything just now."""
        self._listen(0)
        return bool(self._free)

    def put(self, texts: Sequence[memoryview]) -> int | None:
        """Have it read these JSON arrays, at most `share_rows` of them, if `has_room`.

        Returns:
            The share that they are in, to be given back by `take`; None where they do not fit into one.
        """
        if not self._free or not texts or sum(map(len, texts)) > self._shares[0].capacity:
            return None
        share = self._free.pop()
        self._shares[share].put(texts)
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # _listen hears of its end, too
                self._process.stdin.write(bytes([share]))
        return share

    def done(self, share: int) -> bool:
        """Whether `take` would not wait."""
        self._listen(0)
        return share in self._read or self._process is None

    def take(self, share: int, count: int) -> list[Vectors | None]:
        """What it read of the `count` texts in a share, each of shape (dimensions,); waits for it.

        Under `np.errstate(over="ignore")`. None for each that is no array of so many numbers, or was not read.
        """
        while share not in self._read:
            if self._process is None:
                return [None] * count
            if not self._listen(_PATIENCE):
                self.close()
        self._read.discard(share)
        self._free.append(share)
        rows = np.frombuffer(self._shares[share].doubles, np.float64).reshape(-1, self._dimensions)
        return [rows[row].astype(np.float32) if good else None for row, good in enumerate(self._shares[share].good())]

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        self._free.clear()
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _listen(self, seconds: float) -> bool:
        """Hear what it says within so many seconds; False where that is nothing."""
        if self._process is None or self._process.stdout is None or not self._ear.poll(1000 * seconds):
            return False
        said = self._process.stdout.read(2 * SHARES)
        if not said:
            self.close()
        elif said == READY:
            self._free.extend(range(SHARES))
        else:
            self._read.update(said)
        return True


def _environment() -> dict[str, str]:
    """It finds packages and libraries where we found them, and sees no secret, having no use for one."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LD_LIBRARY_PATH")}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
