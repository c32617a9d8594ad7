"""The commands of `embedding-assets` that look and change nothing, as jobs."""

# No `from __future__ import annotations`: Dagster reads the annotations of configuration as objects.
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.errors import CorruptedError, UnreadableError
from embedding_assets.orchestration import forms
from embedding_assets.orchestration.forms import chosen, level_of, pasted
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.tables import rows_table
from embedding_assets.pipeline import upkeep
from embedding_assets.pipeline.findings import Findings, Row
from embedding_assets.pipeline.named import require_named
from embedding_assets.pipeline.reports import current_report
from embedding_assets.pipeline.status import collection_status
from embedding_assets.pipeline.this_machine import HERE
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store.objects import ObjectStore

_ASSETS = {"deltas": "deltas", "batches": "batch_results"}  # by the beginning of an operation's name

Look = Callable[[ObjectStore, CollectionSpec, Any, Path], Findings]


def _status(store: ObjectStore, spec: CollectionSpec, form: forms.LookForm, scratch: Path) -> Findings:
    stands = collection_status(store, spec).to_json()
    rows: tuple[Row, ...] = tuple(
        {"fact": str(key), "value": str(value)} for key, value in stands.items() if key != "collection"
    )
    return Findings(spec.name, rows, f"{stands['records']} records in the snapshot")


def _report(store: ObjectStore, spec: CollectionSpec, form: forms.LookForm, scratch: Path) -> Findings:
    made = current_report(store, spec, scratch)
    if made is None:
        return Findings(spec.name, (), "there is no snapshot yet")
    version = made.statistics.version
    return Findings(spec.name, ({"name": made.page, "version": version},), f"the report of {version}: {made.page}")


_COMMANDS: Sequence[tuple[str, type[forms.LookForm], str, Look]] = (
    ("status", forms.LookForm, "Where every collection stands: records, deltas, the current snapshot.", _status),
    (
        "check",
        forms.VerifyForm,
        "Verify everything: deltas, snapshots, the books of every day.",
        lambda s, spec, c, tmp: upkeep.check_collection(s, spec, level_of(c.level), tmp),
    ),
    (
        "snapshots_list",
        forms.LookForm,
        "The versions, which one is current, and where the pointer points.",
        lambda s, spec, c, tmp: upkeep.list_snapshots(s, spec),
    ),
    (
        "snapshots_verify",
        forms.VerifyForm,
        "Whether each snapshot version is whole.",
        lambda s, spec, c, tmp: upkeep.verify_snapshots(s, spec, level_of(c.level), tmp),
    ),
    (
        "deltas_list",
        forms.LookForm,
        "The deltas, and folders of older systems.",
        lambda s, spec, c, tmp: upkeep.list_all_deltas(s, spec),
    ),
    (
        "deltas_verify",
        forms.VerifyDeltasForm,
        "Whether each delta is whole.",
        lambda s, spec, c, tmp: upkeep.verify_deltas(s, spec, level_of(c.level), tmp, pasted(c.ids)),
    ),
    (
        "report",
        forms.LookForm,
        "Where the report of the current snapshot is (its map, growth, health and numbers); made if it is not there.",
        _report,
    ),
    (
        "quarantine_list",
        forms.LookForm,
        "What was moved aside, why, and which batches were in it.",
        lambda s, spec, c, tmp: upkeep.list_quarantined(s, spec),
    ),
)


def build_look_jobs(catalog: Catalog, names: Names) -> list[dg.JobDefinition]:
    """A job per command."""
    return [look_job(catalog, names, *command) for command in _COMMANDS]


def look_job(
    catalog: Catalog,
    names: Names,
    name: str,
    form: type[forms.LookForm],
    description: str,
    look: Callable[..., Findings],
    *,
    api: bool = False,
) -> dg.JobDefinition:
    """The job of a command.

    Args:
        look: what the command does; where it needs the `api`, its first argument makes a client.
    """

    def body(context: dg.OpExecutionContext, config: forms.LookForm) -> Iterator[dg.AssetObservation]:
        found = []
        work = partial(look, names.api_in(context).client) if api else look
        if (named := config.named()) is not None:
            require_named(names.store_in(context).open(), chosen(catalog, config.collections), named)
        with ScratchFolder("look", sweep=False) as scratch:
            for spec in chosen(catalog, config.collections):
                found.append(work(names.store_in(context).open(), spec, config, scratch))
                # Yielded and not logged: what is logged is lost when the step fails.
                yield told(context, names, name, found[-1])
        _end_as_the_command_does(found)

    body.__annotations__["config"] = form
    op = dg.op(
        name=names.of(name),
        description=f"{description} Changes no data.",
        out={},
        required_resource_keys={names.store, names.api} if api else {names.store},
    )(body)

    @dg.job(
        name=names.of(f"upkeep_{name}"),
        description=f"{description} Changes no data.",
        executor_def=dg.in_process_executor,
    )
    def upkeep_look() -> None:
        op()

    return upkeep_look


def _end_as_the_command_does(found: Sequence[Findings]) -> None:
    """Fail where the command ends with exit code 3 or 4, so that nobody takes a green run for a clean bill."""
    rows = [row for one in found for row in one.rows]
    for verdict, error, remedy in (
        ("corrupted", CorruptedError, "Launch upkeep_repair, or let the next runs and the audit heal it."),
        ("unknown", UnreadableError, "Launch it again when the store answers."),
    ):
        wrong = [f"{row['name']}: {row.get('reason')}" for row in rows if row.get("verdict") == verdict]
        if wrong:
            more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise error(f"{len(wrong)} of what was verified", f"is {verdict}: {'; '.join(wrong[:3])}{more}", remedy)


def told(context: dg.OpExecutionContext, names: Names, operation: str, found: Findings) -> dg.AssetObservation:
    """What an operation found or did: a line in the log, and a table for the asset's history."""
    context.log.info(f"{found.collection}: {found.summary or f'{len(found.rows)} found'}")
    asset = next((asset for start, asset in _ASSETS.items() if operation.startswith(start)), "snapshots")
    return dg.AssetObservation(
        asset_key=names.asset(asset),
        # An operation on deltas or batches concerns many days, hence no partition of theirs; nor has a machine one.
        partition=found.collection if asset == "snapshots" and found.collection != HERE else None,
        description=f"{operation} of {found.collection}: {found.summary}",
        metadata={
            # The log of a run shows the first lines of it.
            "summary": found.summary,
            "done": rows_table(found.rows),
            "rows": len(found.rows),
            "operation": operation,
            "collection": found.collection,
        },
    )
