"""The child process: imports chromadb once, then forks a process of its own for every task. See `child`.

Importing chromadb takes two seconds; a fork takes a few milliseconds and isolates as well, because at the time of
the fork nothing of chromadb runs yet. A task's process may crash, hang or use up its memory without harm to others.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import sys
import threading
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from embedding_assets.chroma.control import works
from embedding_assets.chroma.examine import examine
from embedding_assets.chroma.merge import merge
from embedding_assets.chroma.sample import draw, to_json
from embedding_assets.chroma.sources import read_source, read_source_origins
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.structure import check_sqlite
from embedding_assets.chroma.write import write

# What others import only when it is first needed, here once and not in every task: 0.3 s in all. It starts no thread.
_IMPORTED_LATE = (
    "chromadb.api.rust",
    "chromadb.telemetry.product.posthog",
    "numpy.ma",  # for np.unique
    "numpy.random",
    "pyarrow.compute",
)


def main() -> None:
    """Do the tasks that come on standard input, a line of JSON each; say on standard output how each process ended."""
    for name in _IMPORTED_LATE:
        importlib.import_module(name)
    # Whatever is there now stays: a task's collector of garbage need not look at it, which takes 30 ms or more each
    # time, and makes the task copy every page of it.
    gc.collect()
    gc.freeze()
    # A task reads in one thread what it hashes in another, and both give up Python's lock for microseconds at a time:
    # with the usual 5 ms they would wait for each other most of the time.
    sys.setswitchinterval(0.0005)
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints must not be taken for a reply
    while line := _read_line():
        pid = os.fork()
        if pid == 0:
            _perform(orjson.loads(line))
        _, status = os.waitpid(pid, 0)
        replies.write(orjson.dumps({"exit": os.waitstatus_to_exitcode(status)}) + b"\n")


def _read_line() -> bytes:
    """One line, read byte by byte: a buffer would swallow what the task's own process watches for."""
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            return b""
        line += piece
    return bytes(line)


def _perform(message: dict[str, Any]) -> None:
    """In the task's own process: do it, write the answer, leave without waiting for chromadb's threads."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    answer: dict[str, Any]
    try:
        if message["memory"]:
            _limit_memory(message["memory"])
        answer = {"result": _do(message["task"], message["arguments"])}
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
        traceback.print_exc(limit=-4)
    answer_path = Path(message["answer"])
    unfinished = answer_path.with_suffix(".part")
    try:
        unfinished.write_bytes(orjson.dumps(answer))
        unfinished.rename(answer_path)
    except OSError as error:  # no disk, no words: the code says it
        os._exit(error.errno or 1)
    os._exit(0)


def _do(task: str, arguments: dict[str, Any]) -> dict[str, Any]:
    folder = Path(arguments["folder"])
    spec = DatabaseSpec(**arguments["spec"])
    sources = [Source.from_json(raw) for raw in arguments["sources"]]
    if task == "merge":
        return asdict(merge(folder, spec, sources, arguments["hindrance"]))
    if task == "write":
        return asdict(write(folder, spec, sources))
    if task == "examine":
        return asdict(examine(folder, spec, sources, to_be_written=arguments["to_be_written"]))
    if task == "check_file":
        return {"problems": check_sqlite(folder)}
    if task == "control":
        return {"works": works(folder)}
    if task == "ids":
        return {"ids": [i for ids, _ in read_source_origins(Source(folder, ""), spec.collection) for i in ids]}
    if task == "sample":
        rng = np.random.default_rng(arguments["seed"])
        return to_json(*draw(read_source(Source(folder, ""), spec.collection), arguments["most"], rng))
    raise ValueError(f"unknown task {task!r}")


def _limit_memory(more: int) -> None:
    """Let this process use so many bytes more than it has; whatever goes beyond fails to get them.

    RLIMIT_DATA counts what is really private to the process. RLIMIT_AS would count address space, of which every
    thread reserves much that it never uses.
    """
    status = Path("/proc/self/status")
    if status.exists():
        own = next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmData"))
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = own + more if hard == resource.RLIM_INFINITY else min(own + more, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _leave_with_parent() -> None:
    # Nothing is sent while a task runs, so that this returns only when the other end closes: the parent has ended.
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
