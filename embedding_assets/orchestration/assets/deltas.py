"""The asset `deltas`: immutable ChromaDB databases of new results."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources and configuration as objects.

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.metadata.cells import say_built
from embedding_assets.orchestration.metadata.definitions import asset
from embedding_assets.orchestration.metadata.values import Stopwatch, data_version, preview_of_batches
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_of, cell_partitions
from embedding_assets.pipeline.cells import build_cell_deltas
from embedding_assets.scratch import ScratchFolder


def build_deltas(catalog: Catalog, names: Names) -> dg.AssetsDefinition:
    """The asset for these collections."""

    @asset(
        catalog,
        names,
        "deltas",
        "chroma",
        partitions_def=cell_partitions(catalog),
        deps=[names.asset("batch_results")],
        required_resource_keys={names.store},
    )
    def deltas(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """ChromaDB databases with the accepted records of one collection and day.

        Small batches are put together up to the collection's `delta_records`. Each database is built and closed in a
        child process, proved against what it was made from, uploaded, read back, and only then committed.
        """
        watch = Stopwatch()
        collection, day = cell_of(context.partition_key)
        spec, objects = catalog.get(collection), names.store_in(context).open()
        with ScratchFolder("deltas") as scratch:
            done = build_cell_deltas(objects, spec, day, run_id=context.run_id, scratch=scratch, log=context.log.info)
        for batch_id, reason in done.damaged.items():
            context.log.warning(f"the landed result of batch {batch_id} is damaged and will be polled again: {reason}")
        for reason in done.failed:
            context.log.error(reason)
        said = say_built(done)
        new = [entry.batch_id for manifest in done.built for entry in manifest.batches]
        return dg.MaterializeResult(
            data_version=data_version(manifest.digest for manifest in (*done.before, *done.built)),
            metadata={
                **said,
                **watch.rates(said["built_records"], said["built_bytes"]),
                **preview_of_batches(objects, spec, day, new, context.log.info),
            },
        )

    return deltas
