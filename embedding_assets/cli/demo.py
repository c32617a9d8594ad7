"""`embedding-assets demo` and `embedding-assets dev`: the whole pipeline on this machine alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from embedding_assets.cli.demo_environment import DEMO, DemoEnvironment
from embedding_assets.cli.terminal import Terminal
from embedding_assets.errors import ConfigurationError

_END_SECONDS = 30
_QUERIES = (("lines", "total amount due"), ("words", "milk"))


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def demo(
        damage: Annotated[
            bool, typer.Option("--damage", help="Go on from the demo: damage a delta and the snapshot, watch it heal.")
        ] = False,
    ) -> None:
        """Embed 64 sample receipts, end to end, with Dagster and the sandbox, then search them.

        Everything is in the folder .demo; a second run finds nothing to do and changes nothing.
        """
        from embedding_assets.cli.demo_damage import run_damage
        from embedding_assets.cli.demo_run import run_demo

        place = DemoEnvironment(Path.cwd())
        place.prepare()
        with place.service() as base_url:
            os.environ.update(place.variables(base_url))
            console = Terminal(highlight=False)
            if damage:
                run_damage(console, Path(place.variables()["EMBEDDING_ASSETS_DOCUMENTS"]))
            else:
                run_demo(console, _QUERIES)

    @app.command()
    def dev(port: Annotated[int, typer.Option(help="Where the Dagster UI listens, on 127.0.0.1.")] = 3000) -> None:
        """The Dagster UI on the demo's data, with the sandbox and all sensors running, until Ctrl-C."""
        place = DemoEnvironment(Path.cwd())
        place.prepare()
        command = [sys.executable, "-m", "dagster", "dev", "-m", "embedding_assets.definitions"]
        # Whoever ends this process ends what it started: a service manager sends SIGTERM, a terminal SIGINT.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        # A shell that starts it in the background has SIGINT ignored, which the server would inherit and never end by.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with place.service() as base_url:
            process = subprocess.Popen(
                [*command, "-h", "127.0.0.1", "-p", str(port)],
                env={
                    "EMBEDDING_ASSETS_UI": f"http://127.0.0.1:{port}",  # where alerts link to
                    **os.environ,
                    **place.variables(base_url),
                },
                start_new_session=True,
            )
            try:
                code = process.wait()
            except KeyboardInterrupt:
                code = 0
            finally:
                _end(process)
        if code:
            raise ConfigurationError(
                "dagster dev", f"ended with code {code}", "Is the extra `ui` installed, and the port free?"
            )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, which takes it a moment because it ends its own children first; then end what is left of them."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


__all__ = ["DEMO", "register"]
