"""The asset `embedding_requests`: documents become batches of the embedding API."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources and configuration as objects.
import dagster as dg

from embedding_assets.batches.discover import discover
from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_of, cell_partitions
from embedding_assets.orchestration.tables import table
from embedding_assets.pipeline.cells import submit_cell


def build_embedding_requests(catalog: Catalog, names: Names) -> dg.AssetsDefinition:
    """The asset for these collections."""

    @dg.asset(
        key=names.asset("embedding_requests"),
        partitions_def=cell_partitions(catalog),
        group_name=names.group,
        kinds={"openai"},
        required_resource_keys={names.store, names.api},
    )
    def embedding_requests(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """What was asked of the embedding API on one day for one collection: ids, texts, metadata, batches.

        Documents that were not asked for yet are cut into batches within the API's limits and submitted; nothing is
        submitted twice. What expired, cancelled or failed batches left is asked for again. Batches that other
        programs submitted are found and recorded.
        """
        collection, day = cell_of(context.partition_key)
        store = names.store_in(context)
        spec, objects, client = catalog.get(collection), store.open(), names.api_in(context).client()
        found = discover(client, objects, catalog)
        for other in found.claimed:
            context.log.info(
                f"batch {other.batch_id} of {other.collection} on {other.day}, submitted by another program"
            )
        sent = submit_cell(client, objects, spec, day, store.s3_settings())
        if sent.note:
            context.log.info(sent.note)
        return dg.MaterializeResult(
            metadata={
                "submitted_records": sent.count("submitted", "adopted"),
                "submitted_batches": sum(row.action in ("submitted", "adopted") for row in sent.rows),
                "deferred_records": sent.count("deferred"),
                "known_documents": sent.asked_before,
                "refused_documents": len(sent.refused),
                "found_batches": len(found.claimed),
                "unclaimed_batches": len(found.unclaimed),
                "note": sent.note or "nothing to remark",
                "batches": table(
                    [
                        {
                            "batch": row.batch_id,
                            "records": row.count,
                            "attempt": row.attempt,
                            "action": row.action,
                            "reason": row.reason,
                        }
                        for row in sent.rows
                    ],
                    {"batch": "string", "records": "int", "attempt": "int", "action": "string", "reason": "string"},
                ),
                "refused": table(
                    [{"document": refused.name, "reason": refused.reason} for refused in sent.refused],
                    {"document": "string", "reason": "string"},
                ),
            }
        )

    return embedding_requests
