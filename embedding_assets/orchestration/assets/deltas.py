"""The asset `deltas`: immutable ChromaDB databases of new results."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources and configuration as objects.
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_of, cell_partitions
from embedding_assets.orchestration.tables import table
from embedding_assets.pipeline.cells import build_cell_deltas


def build_deltas(catalog: Catalog, names: Names) -> dg.AssetsDefinition:
    """The asset for these collections."""

    @dg.asset(
        key=names.asset("deltas"),
        partitions_def=cell_partitions(catalog),
        group_name=names.group,
        deps=[names.asset("batch_results")],
        kinds={"chroma"},
        required_resource_keys={names.store},
    )
    def deltas(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """ChromaDB databases with the accepted records of one collection and day.

        Small batches are put together up to the collection's `delta_records`. Each database is built and closed in a
        child process, proved against what it was made from, uploaded, read back, and only then committed.
        """
        collection, day = cell_of(context.partition_key)
        with TemporaryDirectory(prefix="embedding-assets-") as scratch:
            done = build_cell_deltas(
                names.store_in(context).open(),
                catalog.get(collection),
                day,
                run_id=context.run_id,
                scratch=Path(scratch),
                log=context.log.info,
            )
        for batch_id, reason in done.damaged.items():
            context.log.warning(f"the landed result of batch {batch_id} is damaged and will be polled again: {reason}")
        for reason in done.failed:
            context.log.error(reason)
        every = [*done.before, *done.built]
        return dg.MaterializeResult(
            metadata={
                "built_deltas": len(done.built),
                "built_records": sum(manifest.count for manifest in done.built),
                "built_bytes": sum(manifest.size for manifest in done.built),
                "failed_deltas": len(done.failed),
                "damaged_landings": len(done.damaged),
                "deltas_of_cell": len(every),
                "records_of_cell": sum(manifest.count for manifest in every),
                "deltas": table(
                    [
                        {
                            "delta": manifest.id,
                            "new": manifest in done.built,
                            "records": manifest.count,
                            "batches": len(manifest.batches),
                            "bytes": manifest.size,
                            "digest": manifest.digest,
                        }
                        for manifest in every
                    ],
                    {
                        "delta": "string",
                        "new": "bool",
                        "records": "int",
                        "batches": "int",
                        "bytes": "int",
                        "digest": "string",
                    },
                ),
            }
        )

    return deltas
