"""Memory of a process and everything that it started, from /proc (Linux)."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path


class PeakMemory:
    """Samples the proportional set size of this process's tree five times a second; `peak` is in bytes."""

    def __init__(self, leave_out: set[int] | None = None) -> None:
        self.peak = 0
        self._leave_out = leave_out or set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self.peak = max(self.peak, sum(_pss(pid) for pid in _tree(os.getpid(), self._leave_out)))


def _tree(root: int, leave_out: set[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        if pid not in leave_out:
            found.append(pid)
            waiting.extend(children.get(pid, []))
    return found


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
