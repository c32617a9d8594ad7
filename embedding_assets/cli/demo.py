"""`embedding-assets demo` and `embedding-assets dev`: the whole pipeline on this machine alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from embedding_assets.cli.demo_environment import DEMO, DemoEnvironment
from embedding_assets.errors import ConfigurationError

_QUERIES = (("lines", "total amount due"), ("words", "milk"))


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def demo() -> None:
        """Embed 64 sample receipts, end to end, with Dagster and the sandbox, then search them.

        Everything is in the folder .demo; a second run finds nothing to do and changes nothing.
        """
        from embedding_assets.cli.demo_run import run_demo

        place = DemoEnvironment(Path.cwd())
        place.prepare()
        with place.service() as base_url:
            os.environ.update(place.variables(base_url))
            run_demo(Console(highlight=False), _QUERIES)

    @app.command()
    def dev(port: Annotated[int, typer.Option(help="Where the Dagster UI listens, on 127.0.0.1.")] = 3000) -> None:
        """The Dagster UI on the demo's data, with the sandbox and all sensors running, until Ctrl-C."""
        place = DemoEnvironment(Path.cwd())
        place.prepare()
        command = [sys.executable, "-m", "dagster", "dev", "-m", "embedding_assets.definitions"]
        with place.service() as base_url:
            process = subprocess.Popen(
                [*command, "-h", "127.0.0.1", "-p", str(port)], env={**os.environ, **place.variables(base_url)}
            )
            try:
                code = process.wait()
            except KeyboardInterrupt:
                code = _ended(process)
        if code:
            raise ConfigurationError(
                "dagster dev", f"ended with code {code}", "Is the extra `ui` installed, and the port free?"
            )


def _ended(process: subprocess.Popen[bytes]) -> int:
    # Ctrl-C reached it as well; it needs a moment to end its own children.
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if process.poll() is None:
        process.kill()
    return 0


__all__ = ["DEMO", "register"]
