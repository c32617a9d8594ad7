"""The jobs that sensors and people launch. Their steps share one process: the work itself runs in children."""

from __future__ import annotations

import dagster as dg

CELL_JOB, COMPACTION_JOB = "embed_cell", "compact_collection"


def build_jobs() -> list[dg.UnresolvedAssetJobDefinition]:
    """One job per partitioning: a cell from documents to deltas, and the compaction of a collection."""
    return [
        dg.define_asset_job(
            CELL_JOB,
            selection=dg.AssetSelection.assets("embedding_requests", "batch_results", "deltas"),
            description="One collection on one day: submit what is new, land what has finished, build its deltas.",
            executor_def=dg.in_process_executor,
        ),
        dg.define_asset_job(
            COMPACTION_JOB,
            selection=dg.AssetSelection.assets("snapshots"),
            description="One collection: merge the deltas that its snapshot lacks into the next snapshot.",
            executor_def=dg.in_process_executor,
        ),
    ]
