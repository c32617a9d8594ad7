"""The asset `snapshots`: a whole collection as one immutable ChromaDB database."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources and configuration as objects.
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import COLLECTION, collection_partitions
from embedding_assets.orchestration.tables import table
from embedding_assets.vectorstore.compact import compact


def build_snapshots(catalog: Catalog, names: Names) -> dg.AssetsDefinition:
    """The asset for these collections."""

    @dg.asset(
        key=names.asset("snapshots"),
        partitions_def=collection_partitions(catalog),
        group_name=names.group,
        kinds={"chroma"},
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
        for damage in done.damages if done else ():
            context.log.warning(f"{damage.kind} {damage.name} is corrupted and was moved aside: {damage.reason}")
        if done is None or done.manifest is None:
            return dg.MaterializeResult(metadata={"note": "there is no delta yet, hence nothing to compact"})
        manifest, merged = done.manifest, done.merged
        return dg.MaterializeResult(
            data_version=dg.DataVersion(manifest.digest),
            metadata={
                "version": manifest.id,
                "parent": manifest.parent or "none",
                "generation": manifest.generation or 0,
                "records": manifest.count,
                "bytes": manifest.size,
                "digest": manifest.digest,
                "deltas_in_snapshot": len(manifest.deltas),
                "added_records": merged.added if merged else 0,
                "replaced_records": merged.replaced if merged else 0,
                "merged_deltas": len(done.deltas),
                "lost_races": done.lost_races,
                "base": done.base or "nothing",
                "quarantined": len(done.damages) + sum(one.action == "quarantined" for one in done.adoptions),
                "downloaded_bytes": done.traffic.downloaded,
                "cached_bytes": done.traffic.cached,
                "uploaded_bytes": done.traffic.uploaded,
                "adopted_legacy": sum(one.action == "adopted" for one in done.adoptions),
                "chromadb_version": manifest.chromadb_version,
                "note": "compacted" if merged else "the snapshot lacked nothing; it is unchanged",
                "deltas": table(
                    [
                        {
                            "delta": delta.id,
                            "day": delta.day,
                            "records": delta.count,
                            "applied": merged.applied[delta.id] if merged else 0,
                            "batches": len(delta.batches),
                        }
                        for delta in done.deltas
                    ],
                    {"delta": "string", "day": "string", "records": "int", "applied": "int", "batches": "int"},
                ),
            },
        )

    return snapshots
