"""How a command looks at collections or changes them: what it shows, when it asks, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.cli.options import Deployment, deployment
from embedding_assets.cli.shown import show
from embedding_assets.pipeline.findings import Findings, Planned
from embedding_assets.pipeline.named import Named, require_named
from embedding_assets.scratch import ScratchFolder
from embedding_assets.settings import Settings
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.gone import RecordsWouldGoError

CORRUPTED, UNKNOWN = 3, 4
ALL = ("all", "both")

Look = Callable[[ObjectStore, CollectionSpec, Path], Findings]
Plan = Callable[[ObjectStore, CollectionSpec, Path], Planned]
PlanHere = Callable[[Settings], Planned]


@contextmanager
def _collections(environment: str | None, collection: str) -> Iterator[tuple[Deployment, list[CollectionSpec], Path]]:
    with deployment(environment) as found, ScratchFolder("command", sweep=False) as scratch:
        yield found, chosen(found.catalog, collection), scratch


def chosen(catalog: Catalog, collection: str) -> list[CollectionSpec]:
    """The collections that an option names."""
    return list(catalog) if collection in ALL else [catalog.get(collection)]


def look_at(
    environment: str | None,
    collection: str,
    as_json: bool,
    look: Look,
    named: Named | None = None,
    whole: Callable[[ObjectStore, Catalog], Findings | None] | None = None,
) -> None:
    """Look at collections, show what was found, and end with the exit code that says how it stands."""
    with _collections(environment, collection) as (place, specs, scratch):
        if named:
            require_named(place.store, specs, named)
        found = [look(place.store, spec, scratch) for spec in specs]
        if whole and (beside := whole(place.store, place.catalog)):
            found.append(beside)
    show(found, as_json)
    if any(one.count("corrupted") for one in found):
        raise typer.Exit(CORRUPTED)
    if any(one.count("unknown") for one in found):
        raise typer.Exit(UNKNOWN)


def change(
    environment: str | None,
    collection: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    plan: Plan,
    named: Named | None = None,
    here: PlanHere | None = None,
) -> None:
    """Show what would be done, ask, do it, and show what was done."""
    with _collections(environment, collection) as (place, specs, scratch):
        if named:
            require_named(place.store, specs, named)
        plans = [plan(place.store, spec, scratch) for spec in specs]
        if here and not (on_disk := here(place.settings)).nothing:
            plans.append(on_disk)
        nothing = all(one.nothing for one in plans)
        # JSON is for scripts, which read one document: what would be done, or what was done.
        if dry_run or nothing or not (yes or as_json):
            show([Findings(one.collection, one.rows, one.warning) for one in plans], as_json)
        if not (dry_run or nothing):
            if not yes:
                _confirm()
            refused: list[RecordsWouldGoError] = []
            show([done for one in plans if not one.nothing for done in _executed(one, refused)], as_json)
            if refused:  # the other collections come first
                raise refused[0]
        elif not as_json:
            typer.echo("Nothing is to be done." if nothing else "Dry run: nothing was done.")
    if any(one.unjudged for one in plans):
        raise typer.Exit(UNKNOWN)


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to confirm this: give --yes, or --dry-run to look first")
    if not typer.confirm("Do this?"):
        typer.echo("Nothing was done.")
        raise typer.Exit(2)


def _executed(plan: Planned, refused: list[RecordsWouldGoError]) -> list[Findings]:
    try:
        return [plan.execute()]
    except RecordsWouldGoError as error:
        refused.append(error)
        return []
