"""The asset `batch_results`: what the API returned, parsed and landed."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources and configuration as objects.

import dagster as dg
from pydantic import Field

from embedding_assets.batches.balance import balance
from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.forms import pasted
from embedding_assets.orchestration.metadata.cells import say_landed
from embedding_assets.orchestration.metadata.definitions import asset
from embedding_assets.orchestration.metadata.values import Stopwatch, data_version, preview_of_batches
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_of, cell_partitions
from embedding_assets.pipeline.cells import land_cell
from embedding_assets.pipeline.healing import heal_cell
from embedding_assets.pipeline.kinds import as_held
from embedding_assets.scratch import ScratchFolder


class BatchResultsConfig(dg.Config):
    """Which batches to poll."""

    batch_ids: list[str] = Field(
        default=[],
        description="Poll these batches of the cell afresh, even those that have a valid delta. Empty: all that lack "
        "one, which is right unless you know better. Paste ids as they are: blanks and commas separate, too.",
    )


def build_batch_results(catalog: Catalog, names: Names) -> dg.AssetsDefinition:
    """The asset for these collections."""

    @asset(
        catalog,
        names,
        "batch_results",
        "openai",
        "parquet",
        partitions_def=cell_partitions(catalog),
        deps=[names.asset("embedding_requests")],
        required_resource_keys={names.store, names.api},
    )
    def batch_results(context: dg.AssetExecutionContext, config: BatchResultsConfig) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """What came back for one collection and day: accepted records, rejected ones with reasons, missing ones.

        Deltas of the day that are corrupted are moved aside. Then every batch that lacks a valid delta is polled
        afresh, and the finished ones are landed.
        """
        watch, store = Stopwatch(), names.store_in(context)
        collection, day = cell_of(context.partition_key)
        spec, objects = catalog.get(collection), store.open()
        with ScratchFolder("results") as scratch:
            damages = heal_cell(objects, spec, day, run_id=context.run_id, scratch=scratch)
        for damage in damages:
            context.log.warning(f"delta {damage.name} is corrupted ({damage.reason}); {damage.fate}")
        client = names.api_in(context).client()
        results = land_cell(client, objects, spec, day, frozenset(pasted(config.batch_ids)))
        for row in results.batches:
            if row.state in ("trouble", "lost", "kept"):
                context.log.warning(f"batch {row.batch_id}: {row.state}: {row.reason}")
        said = say_landed(results, balance(objects, as_held(objects, spec), day), damages, store, client.url)
        new = [row.batch_id for row in results.batches if row.state == "landed"]
        return dg.MaterializeResult(
            # An outcome is the digest of all that a landing says.
            data_version=data_version(f"{one.batch_id} {one.outcome}" for one in results.landings),
            metadata={
                **said,
                **watch.rates(said["landed_records"], said["landed_bytes"]),
                **preview_of_batches(objects, spec, day, new, context.log.info),
            },
        )

    return batch_results
