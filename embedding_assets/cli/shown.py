"""Prints what maintenance found, would do, or did: rows for people, JSON for scripts."""

from __future__ import annotations

import orjson
import typer

from embedding_assets.cli.terminal import Terminal, plain
from embedding_assets.cli.words import size_in_words
from embedding_assets.pipeline.findings import Findings, Row


def show(found: list[Findings], as_json: bool) -> None:
    """Print what was found in each collection, for people or as JSON."""
    if as_json:
        rows = [{"collection": one.collection, "summary": one.summary, "rows": list(one.rows)} for one in found]
        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    console = Terminal(highlight=False, soft_wrap=True)
    for one in found:
        show_findings(console, one)


def show_findings(console: Terminal, found: Findings) -> None:
    """Print one collection's findings for people."""
    console.print(f"[bold]{plain(found.collection)}[/]: {plain(found.summary or 'nothing')}")
    for row in found.rows:
        console.print(_line(row))


_HEADS = ("verdict", "action", "state")
_STYLES = {"valid": "green", "corrupted": "bold red", "unknown": "yellow"}


def _line(row: Row) -> str:
    """A row for people: what about it, which, the facts; the reason on a line of its own."""
    head = next((str(row[key]) for key in _HEADS if row.get(key)), "")
    style = _STYLES.get(head, "cyan")
    facts = [
        size_in_words(value) if key == "bytes" and isinstance(value, int) else f"{key} {value}"
        for key, value in row.items()
        if key not in (*_HEADS, "kind", "name", "reason", "remedy") and value not in (None, "")
    ]
    text = f"  [{style}]{plain(head)}[/] {plain(row.get('kind'))} {plain(row.get('name'))}".replace("  ", " ").rstrip()
    text = f"  {text.strip()}" + (f"  [dim]{plain(', '.join(facts))}[/]" if facts else "")
    return text + "".join(f"\n      {plain(row[key])}" for key in ("reason", "remedy") if row.get(key))
