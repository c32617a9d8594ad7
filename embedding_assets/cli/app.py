"""The commands, and how every one of them fails."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import NoReturn

import typer
from rich.console import Console

from embedding_assets.errors import EmbeddingAssetsError

EXIT_CODES = """
Exit codes: 0 done; 1 failed, the message names the object, the reason and the remedy; 2 wrong usage;
3 something is corrupted; 4 something could not be read; 75 not now (network, throttling, another writer): try again.
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
    try:
        app()
    except EmbeddingAssetsError as error:
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        console.print(f"[bold red]error:[/] {_plain(error.subject)}: {_plain(error.reason)}")
        console.print(f"  {_plain(error.remedy)}")
        sys.exit(_TRY_AGAIN if error.recoverable else 1)
    sys.exit(0)


@lru_cache
def _register() -> None:
    """Add the commands, once however often the command line is run in one process."""
    from embedding_assets.cli import alerts, demo, query, report, status, upkeep

    for part in (demo, query, report, status, alerts, upkeep):
        part.register(app)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
