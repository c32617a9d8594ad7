"""The asset `snapshots`: a whole collection as one immutable ChromaDB database."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources and configuration as objects.
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.metadata.definitions import asset
from embedding_assets.orchestration.metadata.snapshots import say_compacted, say_report
from embedding_assets.orchestration.metadata.values import Stopwatch
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import COLLECTION, collection_partitions
from embedding_assets.vectorstore.compact import compact


def build_snapshots(catalog: Catalog, names: Names) -> dg.AssetsDefinition:
    """The asset for these collections."""

    @asset(
        catalog,
        names,
        "snapshots",
        "chroma",
        partitions_def=collection_partitions(catalog),
        deps=[
            dg.AssetDep(
                names.asset("deltas"),
                partition_mapping=dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name=COLLECTION),
            )
        ],
        required_resource_keys={names.store},
    )
    def snapshots(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """The current snapshot of one collection: the one before, and all committed deltas that it lacked.

        Of two records with one id the last submitted wins. The new snapshot is proved record by record, uploaded,
        read back, and becomes the current one by one atomic commit.
        """
        watch = Stopwatch()
        spec, store = catalog.get(context.partition_key), names.store_in(context)
        with TemporaryDirectory(prefix="embedding-assets-") as scratch:
            done = compact(
                store.open(),
                spec,
                run_id=context.run_id,
                scratch=Path(scratch),
                log=context.log.info,
                cache_folder=store.cache_folder(),
            )
            report = say_report(store, spec, done, Path(scratch), context.log.warning) if done else {}
        for damage in done.damages if done else ():
            context.log.warning(f"{damage.kind} {damage.name} is corrupted and was moved aside: {damage.reason}")
        if done is None or done.manifest is None:
            return dg.MaterializeResult(metadata={"note": "there is no delta yet, hence nothing to compact"})
        merged = done.merged
        return dg.MaterializeResult(
            data_version=dg.DataVersion(done.manifest.digest),
            metadata={
                "note": "compacted" if merged else "the snapshot lacked nothing; it is unchanged",
                **report,
                **say_compacted(done, done.manifest, store),
                **watch.rates(merged.added + merged.replaced if merged else 0, done.manifest.size if merged else 0),
            },
        )

    return snapshots
