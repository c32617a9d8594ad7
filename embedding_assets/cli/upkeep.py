"""`snapshots`, `deltas`, `quarantine`, `check`, `repair`, `prune`: what is done by hand, with a dry run first."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated

import typer

from embedding_assets.cli.acting import ALL, change, look_at
from embedding_assets.cli.options import Env, Json
from embedding_assets.errors import ConfigurationError
from embedding_assets.pipeline import operations, this_machine, upkeep
from embedding_assets.pipeline.compacting import rebuild_snapshot
from embedding_assets.pipeline.left_alone import check_store
from embedding_assets.pipeline.named import NamedKind
from embedding_assets.vectorstore.prune import GRACE, KEEP, LONGEST_GRACE
from embedding_assets.vectorstore.verification import Level

EXIT_CODES = (
    "Exit codes: 0 done, or all valid; 1 failed; 2 wrong usage, or not confirmed; 3 something is corrupted; "
    "4 something could not be read, is not as declared, or is gone, and nothing is corrupted; 75 not now: try again."
)
RUN_ID = "by hand"

CollectionOption = Annotated[
    str, typer.Option("--collection", help="A declared collection, or `all` (`both` means the same).")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
LevelOption = Annotated[
    str, typer.Option("--level", help="`quick`: manifest, checksums, SQLite; `full`: also opens and searches it.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    _register_snapshots(app)
    _register_deltas(app)
    _register_quarantine(app)
    _register_whole(app)


def command_group(app: typer.Typer, name: str, text: str) -> typer.Typer:
    """Add a group of commands."""
    group = typer.Typer(help=text, epilog=EXIT_CODES, no_args_is_help=True)
    app.add_typer(group, name=name)
    return group


def _register_snapshots(app: typer.Typer) -> None:
    group = command_group(app, "snapshots", "The snapshot versions of a collection.")

    @group.command("list", epilog=EXIT_CODES)
    def listing(collection: CollectionOption = "all", environment: Env = None, as_json: Json = False) -> None:
        """The versions, which one is current, and where the pointer points."""
        look_at(environment, collection, as_json, lambda store, spec, _: upkeep.list_snapshots(store, spec))

    @group.command(epilog=EXIT_CODES)
    def verify(
        collection: CollectionOption = "all",
        level: LevelOption = "quick",
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Whether each version is whole. Changes nothing."""
        depth = _level(level)
        look_at(environment, collection, as_json, lambda s, spec, tmp: upkeep.verify_snapshots(s, spec, depth, tmp))

    @group.command(epilog=EXIT_CODES)
    def delete(
        collection: CollectionOption = "all",
        timestamped: Annotated[bool, typer.Option(help="Delete all versions too.")] = False,
        dry_run: DryRun = False,
        yes: Yes = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Remove the pointer and `latest/`; keep all deltas; the next compaction rebuilds from them.

        Readers find no snapshot until then.
        """
        change(
            environment, collection, dry_run, yes, as_json,
            lambda s, spec, tmp: operations.delete_snapshots(
                s, spec, timestamped=timestamped, run_id=RUN_ID, scratch=tmp
            ),
        )  # fmt: skip

    @group.command(epilog=EXIT_CODES)
    def rollback(
        version: str,
        collection: CollectionOption = "all",
        dry_run: DryRun = False,
        yes: Yes = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Make an older version the current one. Name the one collection that it belongs to."""
        _require_one(collection)
        change(
            environment, collection, dry_run, yes, as_json,
            lambda store, spec, _: operations.rollback_snapshot(store, spec, version, run_id=RUN_ID),
            ("version", [version]),
        )  # fmt: skip

    @group.command(epilog=EXIT_CODES)
    def rebuild(
        collection: CollectionOption = "all",
        force: Annotated[
            bool, typer.Option(help="Also where records are lost by it, as nothing is left of deltas.")
        ] = False,
        dry_run: DryRun = False,
        yes: Yes = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Make the next snapshot from all deltas, starting from nothing; the current one serves until then.

        Deltas that are gone are made again first, of what has landed and of the current snapshot.
        """
        change(
            environment, collection, dry_run, yes, as_json,
            lambda s, spec, tmp: rebuild_snapshot(s, spec, run_id=RUN_ID, scratch=tmp, force=force),
        )  # fmt: skip


def _register_deltas(app: typer.Typer) -> None:
    group = command_group(app, "deltas", "The deltas of a collection.")

    @group.command("list", epilog=EXIT_CODES)
    def listing(collection: CollectionOption = "all", environment: Env = None, as_json: Json = False) -> None:
        """The deltas, and folders of older systems."""
        look_at(environment, collection, as_json, lambda store, spec, _: upkeep.list_all_deltas(store, spec))

    @group.command(epilog=EXIT_CODES)
    def verify(
        ids: Annotated[list[str] | None, typer.Argument(help="Only these.")] = None,
        collection: CollectionOption = "all",
        level: LevelOption = "quick",
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Whether each delta is whole. Changes nothing."""
        depth = _level(level)
        look_at(
            environment,
            collection,
            as_json,
            lambda s, spec, tmp: upkeep.verify_deltas(s, spec, depth, tmp, ids or ()),
            ("committed delta", ids or ()),
        )

    @group.command(epilog=EXIT_CODES)
    def delete(
        ids: Annotated[list[str], typer.Argument(help="Which.")],
        collection: CollectionOption = "all",
        dry_run: DryRun = False,
        yes: Yes = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Delete deltas. Their batches are pending again: the next run polls them and builds new ones."""
        change(
            environment, collection, dry_run, yes, as_json,
            lambda s, spec, tmp: operations.delete_deltas(s, spec, ids, scratch=tmp),
            ("delta", ids),
        )  # fmt: skip

    @group.command(epilog=EXIT_CODES)
    def clean(
        created_before: Annotated[
            str | None,
            typer.Option(
                help="ISO time (UTC unless it says otherwise) of the store. [default: validated_since, or now]"
            ),
        ] = None,
        corrupted_only: Annotated[bool, typer.Option(help="Delete only what is corrupted.")] = True,
        level: LevelOption = "full",
        collection: CollectionOption = "all",
        dry_run: DryRun = False,
        yes: Yes = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Verify deltas older than a cut-off and delete those that are corrupted.

        What cannot be read just now is reported, never deleted.
        """
        before, depth = _time(created_before) if created_before else None, _level(level)
        change(
            environment, collection, dry_run, yes, as_json,
            lambda s, spec, tmp: operations.clean_deltas(
                s, spec, before, corrupted_only=corrupted_only, level=depth, scratch=tmp
            ),
        )  # fmt: skip


def _register_quarantine(app: typer.Typer) -> None:
    group = command_group(app, "quarantine", "What was found corrupted and moved aside.")

    @group.command("list", epilog=EXIT_CODES)
    def listing(collection: CollectionOption = "all", environment: Env = None, as_json: Json = False) -> None:
        """What was moved aside, why, and which batches were in it."""
        look_at(environment, collection, as_json, lambda store, spec, _: upkeep.list_quarantined(store, spec))

    @group.command(epilog=EXIT_CODES)
    def restore(
        kind: Annotated[str, typer.Argument(help="`delta` or `snapshot`.")],
        name: str,
        collection: CollectionOption = "all",
        force: Annotated[bool, typer.Option("--force", help="Move it back although it is corrupted.")] = False,
        dry_run: DryRun = False,
        yes: Yes = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Move an entry back to its place. Name the one collection that it belongs to."""
        _require_one(collection)
        of_kind: NamedKind = "quarantined delta" if operations.entry_kind(kind) == "delta" else "quarantined snapshot"
        change(
            environment, collection, dry_run, yes, as_json,
            lambda store, spec, _: operations.restore(store, spec, kind, name, force=force),
            (of_kind, [name]),
        )  # fmt: skip

    @group.command(epilog=EXIT_CODES)
    def purge(
        names: Annotated[list[str] | None, typer.Argument(help="Only these.")] = None,
        found_before: Annotated[str | None, typer.Option(help="Only what was moved here before this ISO time.")] = None,
        collection: CollectionOption = "all",
        dry_run: DryRun = False,
        yes: Yes = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Delete entries for good. What is deleted here cannot be had back."""
        before = _time(found_before) if found_before else None
        change(
            environment, collection, dry_run, yes, as_json,
            lambda store, spec, _: operations.purge(store, spec, names or (), found_before=before),
            ("entry", names or ()),
        )  # fmt: skip


def _register_whole(app: typer.Typer) -> None:
    @app.command(epilog=EXIT_CODES)
    def check(
        collection: CollectionOption = "all",
        level: LevelOption = "quick",
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Verify everything: deltas, snapshots, the books of every day. Changes nothing."""
        depth = _level(level)
        look_at(
            environment, collection, as_json, lambda s, spec, tmp: upkeep.check_collection(s, spec, depth, tmp),
            whole=check_store if collection in ALL else None,
        )  # fmt: skip

    @app.command(epilog=EXIT_CODES)
    def repair(
        collection: CollectionOption = "all",
        level: LevelOption = "quick",
        dry_run: DryRun = False,
        yes: Yes = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Verify everything, move aside what is corrupted, and compact from what is good.

        Nothing is deleted. The batches of a delta that is moved aside are polled again by the next run of their day.
        """
        depth = _level(level)
        change(
            environment, collection, dry_run, yes, as_json,
            lambda s, spec, tmp: operations.repair(s, spec, level=depth, run_id=RUN_ID, scratch=tmp),
        )  # fmt: skip

    @app.command(epilog=EXIT_CODES)
    def prune(
        keep: Annotated[int, typer.Option(min=1, help="So many of the newest versions stay.")] = KEEP,
        grace_hours: Annotated[
            float,
            typer.Option(
                min=0, max=LONGEST_GRACE, help="Nothing unfinished that is younger is touched: its writer may be at it."
            ),
        ] = GRACE.total_seconds() / 3600,
        collection: CollectionOption = "all",
        dry_run: DryRun = False,
        yes: Yes = False,
        environment: Env = None,
        as_json: Json = False,
    ) -> None:
        """Delete what dead writers left behind, here and in the store, and old snapshot versions."""
        change(
            environment, collection, dry_run, yes, as_json,
            lambda store, spec, _: operations.prune(store, spec, keep=keep, grace=timedelta(hours=grace_hours)),
            here=lambda settings: this_machine.prune_scratch(settings.cache_folder),
        )  # fmt: skip


def _level(text: str) -> Level:
    if text == "quick":
        return "quick"
    if text == "full":
        return "full"
    raise typer.BadParameter(f"{text!r} is no level: quick or full")


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no ISO time, such as 2026-03-04T12:00") from None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _require_one(collection: str) -> None:
    if collection in ALL:
        raise ConfigurationError("--collection", "is needed here", "Name the collection, such as --collection lines.")
