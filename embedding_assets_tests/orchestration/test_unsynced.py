"""What Dagster calls unsynced: what was made of content that has changed since, and nothing else."""

from __future__ import annotations

from datetime import date

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.assemble import build_definitions
from embedding_assets_tests.cells import receipt_lines
from embedding_assets_tests.orchestration.deployment import Deployment

pytestmark = [pytest.mark.dagster, pytest.mark.service]


def unsynced(deployment: Deployment) -> set[str]:
    """The assets whose cell, or collection, Dagster takes for made of something else than there is."""
    cell = deployment.cell
    catalog = Catalog(start=date.fromisoformat(cell.day), collections={cell.spec.name: cell.spec})
    definitions = build_definitions(catalog, {"store": deployment.store, "api": deployment.api})
    context = LoadingContextForTest(deployment.instance)
    resolver = CachingStaleStatusResolver(deployment.instance, definitions.resolve_asset_graph(), context)
    keys = {
        "embedding_requests": deployment.cell_partition,
        "batch_results": deployment.cell_partition,
        "deltas": deployment.cell_partition,
        "snapshots": cell.spec.name,
    }
    return {
        name
        for name, partition in keys.items()
        if resolver.get_status(dg.AssetKey(name), partition) == StaleStatus.STALE
    }


def test_new_documents_unsync_what_is_made_of_them_until_it_is_made_anew(complete: Deployment) -> None:
    for _ in ("the first time", "again, with nothing new"):
        complete.run_cell()
        complete.run_compaction()
        assert unsynced(complete) == set()
    complete.run_cell()
    assert unsynced(complete) == set()
    complete.cell.write(receipt_lines(23))
    complete.run_cell("embedding_requests")
    assert unsynced(complete) == {"batch_results"}
    complete.cell.wait()
    complete.run_cell("batch_results")
    assert unsynced(complete) == {"deltas"}
    complete.run_cell("deltas")
    assert unsynced(complete) == {"snapshots"}
    complete.run_compaction()
    assert unsynced(complete) == set()
