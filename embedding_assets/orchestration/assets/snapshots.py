"""The asset `snapshots`: a whole collection as one immutable ChromaDB database."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources and configuration as objects.

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.assets.sharded import build_sharded_snapshots
from embedding_assets.orchestration.metadata.definitions import asset
from embedding_assets.orchestration.metadata.snapshots import say_snapshot
from embedding_assets.orchestration.metadata.values import Stopwatch
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cells_of_a_collection, collection_partitions
from embedding_assets.pipeline.compacting import compact_or_make_again
from embedding_assets.scratch import ScratchFolder


def build_snapshots(catalog: Catalog, names: Names) -> dg.AssetsDefinition:
    """The asset for these collections; of several steps where one of them has several shards."""
    if catalog.sharded:
        return build_sharded_snapshots(catalog, names)

    @asset(
        catalog,
        names,
        "snapshots",
        "chroma",
        partitions_def=collection_partitions(catalog),
        deps=[dg.AssetDep(names.asset("deltas"), partition_mapping=cells_of_a_collection())],
        required_resource_keys={names.store},
    )
    def snapshots(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """The current snapshot of one collection: the one before, and all committed deltas that it lacked.

        Of two records with one id the last submitted wins. The new snapshot is proved record by record, uploaded,
        read back, and becomes the current one by one atomic commit.
        """
        watch = Stopwatch()
        spec, store = catalog.get(context.partition_key), names.store_in(context)
        with ScratchFolder("compaction") as scratch:
            done = compact_or_make_again(
                store.open(),
                spec,
                run_id=context.run_id,
                scratch=scratch,
                log=context.log.info,
                cache_folder=store.cache_folder(),
            )
            version, metadata = say_snapshot(store, spec, done, scratch, context.log.warning, watch)
        return dg.MaterializeResult(data_version=version, metadata=metadata)

    return snapshots
