"""`embedding-assets status`."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import typer
from rich.table import Table

from embedding_assets.cli.options import Env, Json, deployment
from embedding_assets.cli.terminal import Terminal
from embedding_assets.cli.words import age_in_words, size_in_words
from embedding_assets.pipeline.left_alone import left_alone
from embedding_assets.pipeline.status import CollectionStatus, collection_status


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def status(environment: Env = None, as_json: Json = False) -> None:
        """Where every collection stands: records, deltas, the current snapshot.

        requested = accepted + rejected + pending; what is left over would be unaccounted for.
        """
        with deployment(environment) as found:
            rows = [collection_status(found.store, spec) for spec in found.catalog]
            left = left_alone(found.store, found.catalog)
        if as_json:
            said = [row.to_json() for row in rows]
            if left:  # beside the collections, since it is no declared one's
                said.append({"collection": "", "left_alone": [one.to_json() for one in left]})
            typer.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())
        else:
            console = Terminal()
            console.print(status_table(rows))
            for one in left:
                said_of = f"{one.kind} {one.name}: {one.reason}"
                console.print(said_of, markup=False, highlight=False, soft_wrap=True)


def status_table(rows: Sequence[CollectionStatus]) -> Table:
    """The rows as a table for people, a column per collection."""
    table = Table("")
    for row in rows:
        table.add_column(row.collection, justify="right", overflow="fold")
    facts: list[tuple[str, list[str]]] = [
        ("requested", [f"{row.requested:,}" for row in rows]),
        ("accepted", [f"{row.accepted:,}" for row in rows]),
        ("rejected", [f"{row.rejected:,}" for row in rows]),
        ("pending", [f"{row.pending:,}" for row in rows]),
        ("deltas", [f"{row.deltas:,}" for row in rows]),
        ("  not in the snapshot", [f"{row.uncompacted:,}" for row in rows]),
        ("snapshot", [row.version or "none yet" for row in rows]),
        ("  records", [f"{row.records:,}" for row in rows]),
        ("  size", [size_in_words(row.bytes) for row in rows]),
        ("  age", [age_in_words(row.age_seconds) for row in rows]),
    ]
    if any(row.waiting_for_quota for row in rows):
        facts.insert(
            4, ("  [bold red]wait for the API account's quota[/]", [f"{row.waiting_for_quota:,}" for row in rows])
        )
    if any(row.unaccounted for row in rows):
        facts.insert(4, ("[bold red]unaccounted[/]", [f"{row.unaccounted:,}" for row in rows]))
    if any(row.set_aside_records for row in rows):
        facts.append(("set aside, not storable", [f"{row.set_aside_records:,}" for row in rows]))
    if any(row.damaged for row in rows):
        facts.append(("[bold red]current version damaged[/]", [row.damaged or "-" for row in rows]))
    if any(row.damaged_requests for row in rows):
        facts.append(
            ("[bold red]damaged records of requests[/]", ["\n".join(row.damaged_requests) or "-" for row in rows])
        )
    if any(row.set_aside for row in rows):
        facts.append(("set aside, of another kind", ["; ".join(row.set_aside) or "-" for row in rows]))
    if any(row.late for row in rows):
        facts.append(("[bold red]late[/]", ["\n".join(row.late) or "-" for row in rows]))
    if any(row.declaration for row in rows):
        facts.append(("[bold red]wrong declaration[/]", [row.declaration or "-" for row in rows]))
    for name, values in facts:
        table.add_row(name, *values)
    return table
