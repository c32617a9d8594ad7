"""The commands of `embedding-assets` that change something, as jobs: a dry run unless told otherwise."""

# No `from __future__ import annotations`: Dagster reads the annotations of configuration as objects.
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.errors import ConfigurationError
from embedding_assets.orchestration import forms
from embedding_assets.orchestration.forms import chosen, level_of, pasted, time_of
from embedding_assets.orchestration.look_jobs import told
from embedding_assets.orchestration.names import Names
from embedding_assets.pipeline import operations
from embedding_assets.pipeline.compacting import rebuild_snapshot
from embedding_assets.pipeline.findings import Findings, Planned
from embedding_assets.pipeline.named import require_named
from embedding_assets.pipeline.this_machine import prune_scratch
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store.objects import ObjectStore

Plan = Callable[[ObjectStore, CollectionSpec, Any, str, Path], Planned]

_COMMANDS: Sequence[tuple[str, type[forms.UpkeepForm], str, Plan]] = (
    (
        "repair",
        forms.RepairForm,
        "Verify everything, move aside what is corrupted, and compact from what is good.",
        lambda s, spec, c, run, tmp: operations.repair(s, spec, level=level_of(c.level), run_id=run, scratch=tmp),
    ),
    (
        "prune",
        forms.PruneForm,
        "Delete what dead writers left behind, in the store and on the machine of the run, and old snapshot versions.",
        lambda s, spec, c, run, tmp: operations.prune(s, spec, keep=c.keep, grace=timedelta(hours=c.grace_hours)),
    ),
    (
        "snapshots_delete",
        forms.DeleteSnapshotsForm,
        "Remove the pointer and `latest/`; keep all deltas; the next compaction rebuilds from them.",
        lambda s, spec, c, run, tmp: operations.delete_snapshots(
            s, spec, timestamped=c.timestamped, run_id=run, scratch=tmp
        ),
    ),
    (
        "snapshots_rollback",
        forms.RollbackForm,
        "Make an older version the current one.",
        lambda s, spec, c, run, tmp: operations.rollback_snapshot(s, spec, c.version.strip(), run_id=run),
    ),
    (
        "snapshots_rebuild",
        forms.RebuildForm,
        "Make the next snapshot from all deltas, starting from nothing; the current one serves until then.",
        lambda s, spec, c, run, tmp: rebuild_snapshot(s, spec, run_id=run, scratch=tmp, force=c.force),
    ),
    (
        "deltas_delete",
        forms.DeleteDeltasForm,
        "Delete deltas; their batches are pending again, and the next run polls them.",
        lambda s, spec, c, run, tmp: operations.delete_deltas(s, spec, pasted(c.ids), scratch=tmp),
    ),
    (
        "deltas_clean",
        forms.CleanDeltasForm,
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
        forms.RestoreForm,
        "Move an entry of the quarantine back to its place.",
        lambda s, spec, c, run, tmp: operations.restore(s, spec, c.kind.value, c.name.strip(), force=c.force),
    ),
    (
        "quarantine_purge",
        forms.PurgeForm,
        "Delete entries of the quarantine for good.",
        lambda s, spec, c, run, tmp: operations.purge(s, spec, pasted(c.names), found_before=time_of(c.found_before)),
    ),
)
_OF_ONE_COLLECTION = ("snapshots_rollback", "quarantine_restore")


def build_upkeep_jobs(catalog: Catalog, names: Names) -> list[dg.JobDefinition]:
    """A job per command."""
    return [upkeep_job(catalog, names, *command) for command in _COMMANDS]


def upkeep_job(
    catalog: Catalog,
    names: Names,
    name: str,
    form: type[forms.UpkeepForm],
    description: str,
    plan: Callable[..., Planned],
    *,
    api: bool = False,
) -> dg.JobDefinition:
    """The job of a command.

    Args:
        plan: what the command plans; where it needs the `api`, its first argument makes a client.
    """

    def body(context: dg.OpExecutionContext, config: forms.UpkeepForm) -> Iterator[dg.AssetObservation]:
        store, specs = names.store_in(context), chosen(catalog, config.collections)
        if name in _OF_ONE_COLLECTION and len(specs) != 1:
            raise ConfigurationError("collections", "must name exactly one collection here", "For example: [lines].")
        if (named := config.named()) is not None:
            require_named(store.open(), specs, named)
        with ScratchFolder("upkeep", sweep=False) as scratch:
            work = partial(plan, names.api_in(context).client) if api else plan
            # All are planned before anything is done: what one of them refuses is done in none.
            plans = [work(store.open(), spec, config, context.run_id, scratch) for spec in specs]
            if name == "prune":
                plans.append(prune_scratch(store.cache_folder()))
            for planned in plans:
                if planned.warning:
                    context.log.warning(f"{planned.collection}: {planned.warning}")
                done = Findings(
                    planned.collection,
                    planned.rows,
                    f"a dry run: nothing was done; with dry_run: false these {len(planned.rows)} would be",
                )
                if planned.nothing:
                    done = Findings(planned.collection, (), "nothing is to be done")
                elif not config.dry_run:
                    done = planned.execute()
                yield told(context, names, name, done)

    body.__annotations__["config"] = form
    description = f"{description} A dry run unless `dry_run` is set to false."
    op = dg.op(
        name=names.of(name),
        description=description,
        out={},
        required_resource_keys={names.store, *([names.api] if api else [])},
    )(body)

    @dg.job(name=names.of(f"upkeep_{name}"), description=description, executor_def=dg.in_process_executor)
    def upkeep() -> None:
        op()

    return upkeep
