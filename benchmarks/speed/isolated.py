"""Runs one measurement in a fresh process, so that none profits or suffers from what another left behind."""

from __future__ import annotations

import multiprocessing
import resource
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

Figures = dict[str, Any]


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
        kilobytes = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        sender.send({**figures, "peak": kilobytes * 1024})
    except BaseException:
        sender.send(traceback.format_exc())
    sender.close()
