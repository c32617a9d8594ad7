"""The asset `batch_results`: what the API returned, parsed and landed."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources and configuration as objects.
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
from pydantic import Field

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_of, cell_partitions
from embedding_assets.orchestration.tables import table
from embedding_assets.pipeline.cells import land_cell
from embedding_assets.pipeline.healing import heal_cell


class BatchResultsConfig(dg.Config):
    """Which batches to poll."""

    batch_ids: list[str] = Field(
        default_factory=list,
        description="Poll these batches of the cell, even those that have a valid delta. Empty: all that lack one.",
    )


def build_batch_results(catalog: Catalog, names: Names) -> dg.AssetsDefinition:
    """The asset for these collections."""

    @dg.asset(
        key=names.asset("batch_results"),
        partitions_def=cell_partitions(catalog),
        group_name=names.group,
        deps=[names.asset("embedding_requests")],
        kinds={"openai", "parquet"},
        required_resource_keys={names.store, names.api},
    )
    def batch_results(context: dg.AssetExecutionContext, config: BatchResultsConfig) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """What came back for one collection and day: accepted records, rejected ones with reasons, missing ones.

        Deltas of the day that are corrupted are moved aside. Then every batch that lacks a valid delta is polled
        afresh, and the finished ones are landed.
        """
        collection, day = cell_of(context.partition_key)
        spec, objects = catalog.get(collection), names.store_in(context).open()
        with TemporaryDirectory(prefix="embedding-assets-") as scratch:
            damages = heal_cell(objects, spec, day, run_id=context.run_id, scratch=Path(scratch))
        for damage in damages:
            context.log.warning(f"delta {damage.name} is corrupted and was moved aside: {damage.reason}")
        results = land_cell(names.api_in(context).client(), objects, spec, day, frozenset(config.batch_ids))
        landings = results.landings
        for row in results.batches:
            if row.state in ("trouble", "lost", "kept"):
                context.log.warning(f"batch {row.batch_id}: {row.state}: {row.reason}")
        return dg.MaterializeResult(
            metadata={
                "quarantined_deltas": len(damages),
                "landed_batches": results.count("landed"),
                "pending_batches": results.count("pending", "unsent", "trouble"),
                "batches_with_a_delta": results.count("skipped"),
                "accepted_records": sum(landing.accepted for landing in landings),
                "rejected_records": sum(landing.rejected for landing in landings),
                "missing_records": sum(landing.missing for landing in landings),
                "tokens": results.tokens,
                "batches": table(
                    [
                        {
                            "batch": row.batch_id or row.request_id,
                            "state": row.state,
                            "status": row.status or (row.landing.status if row.landing else ""),
                            "requested": row.requested,
                            "accepted": row.landing.accepted if row.landing else None,
                            "rejected": row.landing.rejected if row.landing else None,
                            "missing": row.landing.missing if row.landing else None,
                            "reason": row.reason,
                        }
                        for row in results.batches
                    ],
                    {
                        "batch": "string",
                        "state": "string",
                        "status": "string",
                        "requested": "int",
                        "accepted": "int",
                        "rejected": "int",
                        "missing": "int",
                        "reason": "string",
                    },
                ),
            }
        )

    return batch_results
