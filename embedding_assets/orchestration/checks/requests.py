"""The check of `embedding_requests`: does each batch of other programs belong to a collection?"""

# No `from __future__ import annotations`: Dagster reads the annotations of resources as objects.
import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.errors import CorruptedError
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.tables import table
from embedding_assets.pipeline.left_alone import unclaimed_batches

CLAIMED = "batches_are_claimed"


def build_batches_are_claimed(catalog: Catalog, names: Names) -> dg.AssetChecksDefinition:
    """The check for these collections; of no partition, as such a batch belongs to no cell."""

    @dg.asset_check(asset=names.asset("embedding_requests"), name=CLAIMED, required_resource_keys={names.store})
    def batches_are_claimed(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        """Each batch of other programs that the API lists belongs to a collection; others are a warning, by name."""
        try:
            found = unclaimed_batches(names.store_in(context).open(), catalog)
        except CorruptedError as error:
            return dg.AssetCheckResult(
                passed=False, severity=dg.AssetCheckSeverity.WARN, description=f"could not be judged: {error}"
            )
        said = "each batch of other programs belongs to a collection"
        if found:
            many = "1 batch" if len(found) == 1 else f"{len(found)} batches"
            named = "; ".join(f"{one.batch_id}: {one.reason}" for one in found[:3])
            said = f"{many} of other programs without a collection: {named}"
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.WARN,
            description=said,
            metadata={
                "unclaimed_batches": len(found),
                "batches": table(
                    [{"batch": one.batch_id, "day": one.day, "reason": one.reason} for one in found],
                    {"batch": "string", "day": "string", "reason": "string"},
                ),
            },
        )

    return batches_are_claimed
