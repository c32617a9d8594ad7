"""The asset `embedding_requests`: documents become batches of the embedding API."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources and configuration as objects.
import dagster as dg

from embedding_assets.batches.discover import discover
from embedding_assets.batches.requests import names_of_requests
from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.metadata.cells import say_submitted
from embedding_assets.orchestration.metadata.definitions import asset
from embedding_assets.orchestration.metadata.values import Stopwatch, data_version, preview_of_batches
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_of, cell_partitions
from embedding_assets.pipeline.cells import submit_cell
from embedding_assets.pipeline.kinds import catalog_as_held


def build_embedding_requests(catalog: Catalog, names: Names) -> dg.AssetsDefinition:
    """The asset for these collections."""

    @asset(
        catalog,
        names,
        "embedding_requests",
        "openai",
        partitions_def=cell_partitions(catalog),
        required_resource_keys={names.store, names.api},
    )
    def embedding_requests(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """What was asked of the embedding API on one day for one collection: ids, texts, metadata, batches.

        Documents that were not asked for yet are cut into batches within the API's limits and submitted; nothing is
        submitted twice. What expired, cancelled or failed batches left is asked for again. Batches that other
        programs submitted are found and recorded.
        """
        watch = Stopwatch()
        collection, day = cell_of(context.partition_key)
        store = names.store_in(context)
        spec, objects, client = catalog.get(collection), store.open(), names.api_in(context).client()
        found = discover(client, objects, catalog_as_held(objects, catalog))
        for other in found.claimed:
            context.log.info(
                f"batch {other.batch_id} of {other.collection} on {other.day}, submitted by another program"
            )
        sent = submit_cell(client, objects, spec, day, store.s3_settings())
        if sent.note:
            context.log.info(sent.note)
        for one in sent.passed_over:
            context.log.warning(one)
        new = [row.batch_id for row in sent.rows if row.action in ("submitted", "adopted") and row.batch_id]
        return dg.MaterializeResult(
            data_version=data_version(names_of_requests(objects, collection, day)),
            metadata={
                **say_submitted(sent, found, client.url),
                **watch.rates(sent.count("submitted", "adopted")),
                **preview_of_batches(objects, spec, day, new, context.log.info),
            },
        )

    return embedding_requests
