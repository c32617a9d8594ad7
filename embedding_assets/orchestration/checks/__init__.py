"""Asset checks, partitioned like their assets, so that one partition's failure is never masked by another's success.

Only `batches_are_claimed` is of no partition: what it looks at belongs to none.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.checks.deltas import build_deltas_are_whole
from embedding_assets.orchestration.checks.requests import build_batches_are_claimed
from embedding_assets.orchestration.checks.results import build_result_checks
from embedding_assets.orchestration.checks.snapshots import build_snapshot_is_whole
from embedding_assets.orchestration.checks.vectors import build_vector_checks
from embedding_assets.orchestration.names import Names


def build_checks(catalog: Catalog, names: Names) -> Sequence[dg.AssetChecksDefinition]:
    """The checks of all assets, for these collections."""
    return [
        build_batches_are_claimed(catalog, names),
        build_result_checks(catalog, names),
        build_deltas_are_whole(catalog, names),
        build_snapshot_is_whole(catalog, names),
        build_vector_checks(catalog, names),
    ]
