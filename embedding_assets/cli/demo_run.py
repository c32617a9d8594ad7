"""The demo's run: the same jobs that sensors and people launch, one after the other, in this process."""

from __future__ import annotations

import logging
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import dagster as dg
from rich.console import Console

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.catalog import Catalog, load_catalog
from embedding_assets.cli.query import query_table
from embedding_assets.cli.status import status_table
from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.orchestration.assemble import build_definitions, resources_of
from embedding_assets.orchestration.jobs import CELL_JOB, COMPACTION_JOB
from embedding_assets.orchestration.partitions import cell_key
from embedding_assets.pipeline.pending import cells_to_run, compaction_due
from embedding_assets.pipeline.quality import CHECKS
from embedding_assets.pipeline.status import collection_status
from embedding_assets.reading import Collection
from embedding_assets.settings import load_settings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_WAIT_SECONDS = 300.0


class DemoDagster:
    """Runs jobs on the demo's Dagster instance and tells what they reported."""

    def __init__(self, catalog: Catalog, resources: dict[str, Any], console: Console) -> None:
        warnings.simplefilter("ignore")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._definitions = build_definitions(catalog, resources)
        self._console = console

    def run(self, job: str, partition: str, assets: Sequence[str], shown: Sequence[str]) -> None:
        """Run the assets of one partition and print some of their metadata, and every check."""
        began = time.monotonic()
        with dg.DagsterInstance.get() as instance:
            result = self._definitions.resolve_job_def(job).execute_in_process(
                instance=instance,
                partition_key=partition,
                asset_selection=[dg.AssetKey(name) for name in assets],
                run_config=_QUIET,
                raise_on_error=False,
            )
        found: dict[str, Any] = {}
        for event in result.get_asset_materialization_events():
            found |= {key: value.value for key, value in event.materialization.metadata.items()}
        said = ", ".join(_said(found[key], key) for key in shown if found.get(key))
        title = f"{partition} {' > '.join(assets)}"
        self._console.print(f"[bold]{title}[/]  [dim]{time.monotonic() - began:.1f} s[/]")
        self._console.print(f"    {said or 'nothing to do'}")
        checks = result.get_asset_check_evaluations()
        of_vectors = [check.check_name for check in checks if check.passed and check.check_name in CHECKS]
        if of_vectors:
            self._console.print(f"    checks of vectors [green]passed[/]: {', '.join(of_vectors)}")
        for check in checks:
            if check.check_name in of_vectors:
                continue
            mark = "[green]passed[/]" if check.passed else "[red]failed[/]"
            self._console.print(f"    check {check.check_name} {mark}: {check.description}")
        if not result.success:
            failed = next((event for event in result.all_events if event.is_step_failure), None)
            error = failed.step_failure_data.error if failed and failed.step_failure_data else None
            while error is not None and error.cause is not None:
                error = error.cause
            reason = error.message.strip() if error else "it failed"
            raise EmbeddingAssetsError(f"run of {title}", reason, "Run `embedding-assets dev` and look at the run.")


def run_demo(console: Console, queries: Sequence[tuple[str, str]]) -> None:
    """Submit, wait, land, build, compact, search; the environment's variables say where."""
    settings = load_settings()
    catalog = load_catalog(settings.collections_file)
    store, api = open_store(settings.store_url, settings.s3), EmbeddingApi(settings.api)
    dagster = DemoDagster(catalog, resources_of(settings), console)
    before = _objects(store)
    day = str(layout.now().date())

    console.rule("1. Documents become batches")
    for name in catalog.names:
        dagster.run(
            CELL_JOB,
            cell_key(name, day),
            ["embedding_requests"],
            ["submitted_records", "submitted_batches", "refused_documents", "known_documents"],
        )
    console.rule("2. Batch results become deltas")
    land_all(api, store, catalog, dagster, console)
    console.rule("3. Deltas become snapshots")
    for spec in catalog:
        if compaction_due(store, spec) is None:
            console.print(f"[bold]{spec.name} snapshots[/]\n    lacks nothing")
        else:
            dagster.run(COMPACTION_JOB, spec.name, ["snapshots"], ["records", "merged_deltas", "bytes"])

    console.rule("4. Snapshots are searched")
    for name, text in queries:
        with Collection(store, catalog.get(name), settings) as collection:
            console.print(f'{name}, nearest to "{text}":')
            console.print(query_table(collection.query(text, n=4)))
    console.print(status_table([collection_status(store, spec) for spec in catalog]))
    after = _objects(store)
    if before and before == after:
        console.print(
            f"[bold green]There was nothing to do, and nothing has changed[/]: all {len(after)} objects are as before."
        )
    # As it was called, where its name alone would not find it: in an environment that is not activated.
    program = "embedding-assets" if shutil.which("embedding-assets") else sys.argv[0]
    console.print(f"Search on:          {program} query --env demo lines 'cash paid'", highlight=False, soft_wrap=True)
    console.print("See it in Dagster:  make dev   (then open http://127.0.0.1:3000)")


def land_all(api: EmbeddingApi, store: ObjectStore, catalog: Catalog, dagster: DemoDagster, console: Console) -> None:
    """Run the cells that have something to do until none has, waiting for batches that are under way."""
    deadline = time.monotonic() + _WAIT_SECONDS
    worked = False
    while True:
        cells, work = cells_to_run(api, store, catalog)
        for cell in cells:
            worked = True
            assets = ["embedding_requests"] if cell.ask else []
            dagster.run(
                CELL_JOB,
                cell_key(cell.collection, cell.day),
                [*assets, "batch_results", "deltas"],
                ["landed_batches", "accepted_records", "rejected_records", "built_deltas", "built_records"],
            )
        if not cells and not work.in_flight:
            if not worked:
                console.print("    no batch is waiting")
            return
        if time.monotonic() > deadline:
            raise EmbeddingAssetsError(
                "the demo", f"{work.in_flight} batches do not finish", "Look at .demo/sandbox/service.log."
            )
        if work.in_flight and not cells:
            with console.status(f"  {work.in_flight} batches are under way at the sandbox"):
                time.sleep(1)


def _said(count: int, key: str) -> str:
    """A number of the metadata in words: `1 built delta`."""
    words = key.replace("_", " ")
    if count == 1:
        words = words.removesuffix("es") if words.endswith("ches") else words.removesuffix("s")
    return f"{count:,} {words}"


def _objects(store: ObjectStore) -> list[tuple[str, int, str]]:
    return [(item.key, item.size, item.modified.isoformat()) for item in store.walk("")]
