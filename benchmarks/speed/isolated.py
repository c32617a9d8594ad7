"""Runs one measurement in a fresh process, so that none profits or suffers from what another left behind."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Figures = dict[str, Any]

AT_HAND = 3  # GB
_not_waited_for: list[object] = []  # whose memory would count as that of what is measured


def begin() -> float:
    """The time at which what is measured begins; right before, the disk is synced, and memory touched and freed again.

    A virtual machine may give its host back what nobody has used for two seconds, and to get it again was seen to take
    more than two seconds a GB: as long as what is measured.
    """
    os.sync()
    if sys.platform == "linux":
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        touching = subprocess.Popen(
            [sys.executable, "-c", _TOUCH, str(min(AT_HAND << 30, free // 2))], stdout=subprocess.PIPE
        )
        assert touching.stdout is not None
        touching.stdout.read()  # to its end, and so to that of the process
        _not_waited_for.append(touching)
    return time.perf_counter()


_TOUCH = f"""
import mmap, sys
mmap.mmap(-1, int(sys.argv[1]), flags={mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)})
"""


def measured(do: Callable[..., Figures], **arguments: Any) -> Figures:
    """What `do` returns, and `peak`: the largest resident size, in bytes, of its process or of a child of it."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, do, arguments))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        answer = f"its process ended with code {process.exitcode}"
    process.join()
    if isinstance(answer, str):
        raise RuntimeError(f"{do.__name__}({arguments}): {answer}")
    return dict(answer)


def _run(sender: Connection, do: Callable[..., Figures], arguments: Any) -> None:
    try:
        figures = do(**arguments)
        kilobytes = max(_own_peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
        sender.send({**figures, "peak": kilobytes * 1024})
    except BaseException:
        sender.send(traceback.format_exc())
    sender.close()


def _own_peak() -> int:
    """In KiB, since this program was started; what `getrusage` says counts the process that it was forked from, too."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
