"""Cells (collection x day) and collections as Dagster partitions."""

from __future__ import annotations

from datetime import datetime, timezone

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.errors import ConfigurationError

COLLECTION, DAY = "collection", "day"


def collection_partitions(catalog: Catalog) -> dg.StaticPartitionsDefinition:
    """One partition per declared collection."""
    return dg.StaticPartitionsDefinition(catalog.names)


def cell_partitions(catalog: Catalog) -> dg.MultiPartitionsDefinition:
    """One partition per collection and UTC day of submission."""
    # Without end_offset=1 today's key does not exist until tomorrow.
    days = dg.DailyPartitionsDefinition(start_date=str(catalog.start), timezone="UTC", end_offset=1)
    return dg.MultiPartitionsDefinition({COLLECTION: collection_partitions(catalog), DAY: days})


def partition_of(context: dg.AssetCheckExecutionContext) -> str:
    """The partition that a check is executed for; the button `Execute all` of the UI launches it for none."""
    if not context.has_partition_key:
        raise ConfigurationError(
            "this execution of the check",
            "is for no partition, so that it is not known what to look at",
            "Materialize the partition that you mean, which checks it; or launch the job `audit`, which checks all.",
        )
    key: str = context.partition_key
    return key


def cell_key(collection: str, day: str) -> dg.MultiPartitionKey:
    """The partition key of a cell."""
    return dg.MultiPartitionKey({COLLECTION: collection, DAY: day})


def cell_of(partition_key: str) -> tuple[str, str]:
    """Collection and day of a cell's partition key."""
    if isinstance(partition_key, dg.MultiPartitionKey):
        keys = partition_key.keys_by_dimension
        return keys[COLLECTION], keys[DAY]
    # Dagster joins the values in the order of the dimensions' names; neither value can hold the separator.
    collection, day = partition_key.split("|")
    return collection, day


def is_cell(catalog: Catalog, collection: str, day: str) -> bool:
    """Whether a cell is a partition: its collection is declared, and its day is neither before `start` nor to come."""
    return collection in catalog.names and str(catalog.start) <= day <= str(datetime.now(timezone.utc).date())


def cells_of_a_collection() -> dg.PartitionMapping:
    """A snapshot depends on all cells of its collection."""
    return dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name=COLLECTION)
