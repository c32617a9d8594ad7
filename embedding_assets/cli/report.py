"""`embedding-assets report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedding_assets.cli.options import Env, deployment
from embedding_assets.cli.terminal import printable
from embedding_assets.errors import ConfigurationError, ObjectMissingError
from embedding_assets.pipeline.reports import current_report
from embedding_assets.scratch import ScratchFolder


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def report(
        collection: Annotated[str, typer.Argument(help="A declared collection.")],
        output: Annotated[
            Path | None, typer.Option("-o", "--output", help="The file to write. [default: COLLECTION.html]")
        ] = None,
        show: Annotated[bool, typer.Option("--open", help="Open it in a browser, too.")] = False,
        environment: Env = None,
    ) -> None:
        """Write the report of the current snapshot to a file: its map, growth, health and numbers, for any browser.

        The report is beside the snapshot in the store; it is made now if it is not there.
        """
        path = output or Path(f"{collection}.html")
        with deployment(environment) as found, ScratchFolder("report") as scratch:
            spec = found.catalog.get(collection)
            made = current_report(
                found.store,
                spec,
                scratch,
                cache_folder=found.settings.cache_folder,
                log=lambda message: typer.echo(printable(message), err=True),
            )
            if made is None:
                raise ObjectMissingError(
                    f"collection {collection}", "has no snapshot yet", "Materialize `snapshots` for it first."
                )
            page = found.store.get(made.page)
        try:
            path.write_bytes(page)
        except OSError as error:
            raise ConfigurationError(str(path), f"cannot be written ({error.strerror})", "Name another file.") from None
        typer.echo(f"{path}: {made.statistics.count:,} records of snapshot {made.statistics.version}")
        if show:
            typer.launch(str(path))
