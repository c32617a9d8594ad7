"""Signs of life of a run: which process works on it, and that it still does.

Dagster's default launcher cannot tell whether a run's process lives. So the process says it: a tag of the run names it
and changes every BEAT_SECONDS, whatever the run's code is busy with.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Literal

import dagster as dg

ALIVE_TAG = "embedding_assets/alive"
BEAT_SECONDS = 30.0
_IN_VAIN = 1000  # signs in a row that the storage did not take, more than eight hours
_begun: set[str] = set()
_lock = Lock()


def begin_to_beat(instance: dg.DagsterInstance, run_id: str) -> None:
    """Give signs of life of a run from now on, until it has ended or this process does."""
    with _lock:
        if run_id in _begun:
            return
        _begun.add(run_id)
    if _beat(instance, run_id, 0) is not False:
        Thread(target=_go_on, args=(instance, run_id), name=f"alive-{run_id[:8]}", daemon=True).start()


def _go_on(instance: dg.DagsterInstance, run_id: str) -> None:
    number, in_vain, never = 1, 0, Event()
    while in_vain < _IN_VAIN and not never.wait(BEAT_SECONDS):
        given = _beat(instance, run_id, number)
        if given is False:
            return
        number, in_vain = number + 1, 0 if given else in_vain + 1


def _beat(instance: dg.DagsterInstance, run_id: str, number: int) -> bool | None:
    """One sign of life; False where the run has ended, None where Dagster's storage is in trouble."""
    try:
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        parts = [place(), _process(os.getpid()), _process(os.getppid()), str(number)]
        instance.add_run_tags(run_id, {ALIVE_TAG: " ".join(parts)})
    except Exception:  # whatever the storage raises: the work goes on, and the next sign may get through
        return None
    return True


@lru_cache(maxsize=1)
def place() -> str:
    """Where process numbers mean the same: host, boot and namespace; `-` where that cannot be known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink()}".replace(" ", "")
    except OSError:
        return "-"


def _process(number: int) -> str:
    return f"{number}@{_started(number)}"


def _started(number: int) -> str:
    """When a process started, in ticks since the boot; empty where there is none."""
    try:
        # The name of the program, in parentheses, may hold anything.
        after = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if after[0] in "ZX" else after[19]


def life_of(sign: str | None) -> Literal["lives", "dead", "unknown"]:
    """Whether the process that gave a sign still lives; only certain on the machine that it runs on."""
    parts = (sign or "").split()
    if len(parts) != 4 or parts[0] == "-" or parts[0] != place():
        return "unknown"
    mine, parent = (_is_there(one) for one in parts[1:3])
    if mine:
        return "lives"
    # A step may have had a process of its own, and its run goes on in the one above it.
    return "unknown" if parent else "dead"


def _is_there(process: str) -> bool:
    number, _, started = process.partition("@")
    return number.isdecimal() and bool(started) and _started(int(number)) == started
