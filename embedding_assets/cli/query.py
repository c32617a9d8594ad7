"""`embedding-assets query`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table
from rich.text import Text

from embedding_assets.cli.options import Env, Json, deployment
from embedding_assets.cli.terminal import Terminal
from embedding_assets.reading import Collection, Record


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def query(
        collection: Annotated[str, typer.Argument(help="A declared collection.")],
        text: Annotated[str, typer.Argument(help="What to look for; embedded with the collection's own model.")],
        count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many records.")] = 10,
        where: Annotated[str | None, typer.Option(help='A ChromaDB filter, such as {"receipt_id": 7}.')] = None,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """The records nearest to a text: distance, text, metadata, and the batch each vector came from.

        The table leaves out metadata that is a fraction, such as coordinates; --json shows everything.
        """
        condition = _condition(where)
        with deployment(environment, api=True) as found:
            spec = found.catalog.get(collection)
            with Collection(found.store, spec, found.settings) as handle:
                records = handle.query(text, n=count, where=condition)
        if as_json:
            rows = [{k: v for k, v in asdict(record).items() if k != "embedding"} for record in records]
            typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        else:
            Terminal().print(query_table(records))


def _condition(where: str | None) -> dict[str, Any] | None:
    if where is None:
        return None
    try:
        condition = orjson.loads(where)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"--where is not JSON: {error}") from None
    if not isinstance(condition, dict):
        raise typer.BadParameter("--where is not a JSON object")
    return condition


def query_table(records: Sequence[Record]) -> Table:
    """The records as a table for people; metadata and batch below the text, so that it fits a narrow terminal."""
    table = Table(show_lines=True)
    table.add_column("distance", justify="right")
    table.add_column("text, metadata, batch", overflow="fold")
    for record in records:
        distance = "-" if record.distance is None else f"{record.distance:.4f}"
        shown = {key: value for key, value in record.metadata.items() if not isinstance(value, float)}
        cell = Text(record.document, style="bold")
        cell.append("\n" + ", ".join(f"{key}={value}" for key, value in shown.items()), style="not bold")
        cell.append(f"\n{record.batch_id}", style="not bold dim")
        table.add_row(distance, cell)
    return table
