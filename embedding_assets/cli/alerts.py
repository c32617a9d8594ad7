"""`embedding-assets alerts`: what was told, what still fails, and whether the channels work."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from embedding_assets.alerts.channels import channels_of
from embedding_assets.alerts.delivery import send_test
from embedding_assets.alerts.listing import failures, messages
from embedding_assets.alerts.outbox import Outbox, scopes
from embedding_assets.cli.options import Env, Json, deployment
from embedding_assets.cli.terminal import Terminal, plain
from embedding_assets.errors import ConfigurationError
from embedding_assets.settings import CHANNELS_VARIABLE, load_settings

EXIT_CODES = "Exit codes: 0 done; 1 failed, or a channel did not accept; 2 wrong usage; 75 not now: try again."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="What the pipeline tells of failures.", epilog=EXIT_CODES, no_args_is_help=True)
    app.add_typer(group, name="alerts")

    @group.command("list", epilog=EXIT_CODES)
    def show(
        failing_only: Annotated[bool, typer.Option("--failing", help="Only what fails just now.")] = False,
        last: Annotated[int, typer.Option(min=1, help="So many of the latest messages.")] = 50,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """The latest messages and which channels have them; what fails just now. Needs no Dagster."""
        with deployment(environment) as found:
            channels, _ = channels_of(found.settings.alerts.channels, os.environ)
            sets = {scope: Outbox(found.store, scope).read() for scope in scopes(found.store)}
        rows = [row for scope, contents in sets.items() for row in messages(scope, contents, channels)]
        rows = sorted(rows, key=lambda row: str(row["at"]))[-last:]
        wrong = [row for scope, contents in sets.items() for row in failures(scope, contents)]
        damaged = [{"key": key} for contents in sets.values() for key in contents.damaged]
        if as_json:
            told = {"failing": wrong} if failing_only else {"failing": wrong, "messages": rows, "damaged": damaged}
            typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
            return
        console = Terminal()
        if not failing_only:
            _print(console, "messages", rows, ["at", "title", "waits for"])
            if damaged:
                _print(console, "objects of alerts that cannot be read", damaged, ["key"])
        _print(console, "failing just now", wrong, ["since", "what", "severity", "found"])

    @group.command("test", epilog=EXIT_CODES)
    def test(environment: Env = None) -> None:
        """Send a test to every channel of EMBEDDING_ASSETS_ALERTS."""
        settings = load_settings(environment).alerts
        channels, bad = channels_of(settings.channels, os.environ)
        if not channels and not bad:
            raise ConfigurationError(CHANNELS_VARIABLE, "is not set", "Set it to URLs; see docs/operations.md.")
        console, failed = Terminal(soft_wrap=True, highlight=False, markup=False), bool(bad)
        for entry in bad:
            console.print(f"{entry.label}: no channel: {entry.reason}")
        for channel in channels:
            reason = send_test(channel, settings.ui_url or "")
            console.print(f"{channel.label}: {f'did not accept: {reason}' if reason else 'accepted'}")
            failed = failed or bool(reason)
        if failed:
            sys.exit(1)


def _print(console: Terminal, title: str, rows: list[dict[str, Any]], columns: list[str]) -> None:
    if not rows:
        console.print(f"{title}: none")
        return
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(plain(row[column]) for column in columns))
    console.print(table)
