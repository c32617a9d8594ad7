"""The jobs that sensors and people launch. Their steps share one process: the work itself runs in children."""

from __future__ import annotations

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.names import Names

CELL_JOB, COMPACTION_JOB = "embed_cell", "compact_collection"
CELL_ASSETS = ("embedding_requests", "batch_results", "deltas")


def build_jobs(catalog: Catalog, names: Names) -> list[dg.UnresolvedAssetJobDefinition]:
    """One job per partitioning: a cell from documents to deltas, and the compaction of a collection."""
    return [
        dg.define_asset_job(
            names.of(CELL_JOB),
            selection=dg.AssetSelection.assets(*(names.asset(name) for name in CELL_ASSETS)),
            description="One collection on one day: submit what is new, land what has finished, build its deltas.",
            executor_def=dg.in_process_executor,
        ),
        dg.define_asset_job(
            names.of(COMPACTION_JOB),
            selection=dg.AssetSelection.assets(names.asset("snapshots")),
            description="One collection: merge the deltas that its snapshot lacks into the next snapshot.",
            # Shards are made side by side, by the executor that the project has.
            executor_def=None if catalog.sharded else dg.in_process_executor,
        ),
    ]
