"""The commands of `embedding-assets` as jobs: the same options, a dry run unless told otherwise, in the lineage."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources and configuration as objects.
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
from pydantic import Field

from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.errors import ConfigurationError
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.tables import rows_table
from embedding_assets.pipeline import operations
from embedding_assets.pipeline.findings import Findings, Planned
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.prune import GRACE, KEEP
from embedding_assets.vectorstore.verification import Level

_LEVEL = "`quick` (manifest, checksums, SQLite) or `full` (also opens and searches it)."


class UpkeepConfig(dg.Config):
    """What every command has."""

    collections: list[str] = Field(default_factory=list, description="Which collections. Empty: all.")
    dry_run: bool = Field(default=True, description="Say what would be done, and stop. Set it to false to do it.")


class RepairConfig(UpkeepConfig):
    """Options of `repair`."""

    level: str = Field(default="quick", description=_LEVEL)


class PruneConfig(UpkeepConfig):
    """Options of `prune`."""

    keep: int = Field(default=KEEP, description="So many of the newest versions stay.")
    grace_hours: float = Field(
        default=GRACE.total_seconds() / 3600, description="What is unfinished and younger stays."
    )


class DeleteSnapshotsConfig(UpkeepConfig):
    """Options of `snapshots delete`."""

    timestamped: bool = Field(default=False, description="Delete all versions too, not only the pointer and `latest/`.")


class RollbackConfig(UpkeepConfig):
    """Options of `snapshots rollback`."""

    version: str = Field(description="The version to make current again; name its one collection in `collections`.")


class DeleteDeltasConfig(UpkeepConfig):
    """Options of `deltas delete`."""

    ids: list[str] = Field(description="The deltas to delete; their batches are pending again.")


class CleanDeltasConfig(UpkeepConfig):
    """Options of `deltas clean`."""

    created_before: str = Field(default="", description="ISO time, by the store. Empty: `validated_since`, or now.")
    corrupted_only: bool = Field(default=True, description="Delete only what is corrupted.")
    level: str = Field(default="full", description=_LEVEL)


class RestoreConfig(UpkeepConfig):
    """Options of `quarantine restore`."""

    kind: str = Field(description="`delta` or `snapshot`.")
    name: str = Field(description="The entry; name its one collection in `collections`.")
    force: bool = Field(default=False, description="Move it back although it is corrupted.")


class PurgeConfig(UpkeepConfig):
    """Options of `quarantine purge`."""

    names: list[str] = Field(default_factory=list, description="Only these entries. Empty: all.")
    found_before: str = Field(default="", description="Only what was moved there before this ISO time.")


Plan = Callable[[ObjectStore, CollectionSpec, Any, str, Path], Planned]

_COMMANDS: Sequence[tuple[str, type[UpkeepConfig], str, Plan]] = (
    (
        "repair",
        RepairConfig,
        "Verify everything, move aside what is corrupted, and compact from what is good.",
        lambda s, spec, c, run, tmp: operations.repair(s, spec, level=level_of(c.level), run_id=run, scratch=tmp),
    ),
    (
        "prune",
        PruneConfig,
        "Delete what dead writers left behind, and old snapshot versions.",
        lambda s, spec, c, run, tmp: operations.prune(s, spec, keep=c.keep, grace=timedelta(hours=c.grace_hours)),
    ),
    (
        "snapshots_delete",
        DeleteSnapshotsConfig,
        "Remove the pointer and `latest/`; keep all deltas; the next compaction rebuilds from them.",
        lambda s, spec, c, run, tmp: operations.delete_snapshots(s, spec, timestamped=c.timestamped, run_id=run),
    ),
    (
        "snapshots_rollback",
        RollbackConfig,
        "Make an older version the current one.",
        lambda s, spec, c, run, tmp: operations.rollback_snapshot(s, spec, c.version, run_id=run),
    ),
    (
        "snapshots_rebuild",
        UpkeepConfig,
        "Make the next snapshot from all deltas, starting from nothing; the current one serves until then.",
        lambda s, spec, c, run, tmp: operations.rebuild_snapshot(s, spec, run_id=run, scratch=tmp),
    ),
    (
        "deltas_delete",
        DeleteDeltasConfig,
        "Delete deltas; their batches are pending again, and the next run polls them.",
        lambda s, spec, c, run, tmp: operations.delete_deltas(s, spec, c.ids, scratch=tmp),
    ),
    (
        "deltas_clean",
        CleanDeltasConfig,
        "Verify deltas older than a cut-off and delete those that are corrupted; what cannot be read stays.",
        lambda s, spec, c, run, tmp: operations.clean_deltas(
            s,
            spec,
            time_of(c.created_before),
            corrupted_only=c.corrupted_only,
            level=level_of(c.level),
            scratch=tmp,
        ),
    ),
    (
        "quarantine_restore",
        RestoreConfig,
        "Move an entry of the quarantine back to its place.",
        lambda s, spec, c, run, tmp: operations.restore(s, spec, c.kind, c.name, force=c.force),
    ),
    (
        "quarantine_purge",
        PurgeConfig,
        "Delete entries of the quarantine for good.",
        lambda s, spec, c, run, tmp: operations.purge(s, spec, c.names, found_before=time_of(c.found_before)),
    ),
)
_OF_ONE_COLLECTION = ("snapshots_rollback", "quarantine_restore")


def build_upkeep_jobs(catalog: Catalog, names: Names) -> list[dg.JobDefinition]:
    """A job per command."""
    return [_job(catalog, names, *command) for command in _COMMANDS]


def _job(
    catalog: Catalog, names: Names, name: str, config_type: type[UpkeepConfig], description: str, plan: Plan
) -> dg.JobDefinition:
    def body(context: dg.OpExecutionContext, config: UpkeepConfig) -> None:
        store, specs = names.store_in(context), chosen(catalog, config.collections)
        if name in _OF_ONE_COLLECTION and len(specs) != 1:
            raise ConfigurationError("collections", "must name exactly one collection here", "For example: [lines].")
        with TemporaryDirectory(prefix="embedding-assets-") as scratch:
            for spec in specs:
                planned = plan(store.open(), spec, config, context.run_id, Path(scratch))
                if planned.warning:
                    context.log.warning(f"{spec.name}: {planned.warning}")
                done = Findings(spec.name, planned.rows, "a dry run: nothing was done")
                if planned.nothing:
                    done = Findings(spec.name, (), "nothing is to be done")
                elif not config.dry_run:
                    done = planned.execute()
                context.log.info(f"{spec.name}: {done.summary}")
                for row in done.rows:
                    context.log.info(str({key: value for key, value in row.items() if value is not None}))
                context.log_event(_observation(names, name, done))

    body.__name__ = name
    body.__annotations__["config"] = config_type
    op = dg.op(name=names.of(name), description=description, required_resource_keys={names.store})(body)

    @dg.job(name=names.of(f"upkeep_{name}"), description=description, executor_def=dg.in_process_executor)
    def upkeep() -> None:
        op()

    return upkeep


def _observation(names: Names, name: str, done: Findings) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset_key=names.asset("deltas" if name.startswith("deltas") else "snapshots"),
        partition=None if name.startswith("deltas") else done.collection,
        description=f"{name} of {done.collection}: {done.summary}",
        metadata={"operation": name, "collection": done.collection, "done": rows_table(done.rows)},
    )


def chosen(catalog: Catalog, names: Sequence[str]) -> list[CollectionSpec]:
    """The collections of these names; all, if none is named."""
    return [catalog.get(name) for name in names] or list(catalog)


def level_of(text: str) -> Level:
    """A level by its name."""
    if text == "quick":
        return "quick"
    if text == "full":
        return "full"
    raise ConfigurationError(f"level {text!r}", "is no level", "Use `quick` or `full`.")


def time_of(text: str) -> datetime | None:
    """A time in ISO form, UTC unless it says otherwise; None for an empty text."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ConfigurationError(f"time {text!r}", "is no ISO time", "Write it as 2026-03-04T12:00.") from None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
