"""The commands, and how every one of them fails."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

import typer

from embedding_assets.cli.terminal import Terminal, plain
from embedding_assets.errors import ConfigurationError, EmbeddingAssetsError, LocalDiskError
from embedding_assets.local_disk import local_trouble

EXIT_CODES = """
Exit codes: 0 done; 1 failed, the message names the object, the reason and the remedy; 2 wrong usage;
3 something is corrupted; 4 something could not be read, or is not as declared; 75 not now (network, throttling,
another writer): try again.
"""
_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h, which schedulers know

app = typer.Typer(
    name="embedding-assets",
    help="Batch embeddings as verified ChromaDB snapshots on an object store.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> NoReturn:
    """Run the command line."""
    _register()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # closed, it is None
            stream.reconfigure(errors="backslashreplace")  # where the locale has no such character
    odd = next((word for word in sys.argv[1:] if _is_odd(word)), None)
    if odd is not None:
        _fail(ConfigurationError(f"argument {odd!a}", "is not UTF-8", "Type it again."), code=2)
    try:
        app()
    except EmbeddingAssetsError as error:
        _fail(error)
    except (OSError, sqlite3.Error) as error:  # of this machine: the store's and the API's have errors of their own
        if isinstance(error, OSError) and error.filename is None and _output_is_refused():
            why = error.strerror or str(error)
            _fail(
                LocalDiskError("standard output", f"cannot be written ({why})", "Make room there, or write elsewhere.")
            )
        if trouble := local_trouble(error, Path(tempfile.gettempdir())):
            _fail(trouble)
        if not isinstance(error, OSError):
            raise
        _fail(
            LocalDiskError(
                str(error.filename or "this machine"),
                f"cannot be read or written ({error.strerror or error})",
                "Check its permissions, the free space of its disk, and TMPDIR.",
            )
        )
    sys.exit(0)


def _output_is_refused() -> bool:
    """Whether what was said so far cannot be written; then it is thrown away, or it would fail once more at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _is_odd(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:  # bytes that Python could not decode
        return True
    return False


def _fail(error: EmbeddingAssetsError, code: int | None = None) -> NoReturn:
    console = Terminal(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"[bold red]error:[/] {plain(error.subject)}: {plain(error.reason)}")
    console.print(f"  {plain(error.remedy)}")
    sys.exit(code or (_TRY_AGAIN if error.recoverable else 1))


@lru_cache
def _register() -> None:
    """Add the commands, once however often the command line is run in one process."""
    from embedding_assets.cli import alerts, batches, demo, query, report, status, upkeep

    for part in (demo, query, report, status, alerts, batches, upkeep):
        part.register(app)
