"""A limit of the API account is told, whatever meets it, and all goes on by itself once it is lifted."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from embedding_assets.orchestration.jobs import CELL_JOB
from embedding_assets.pipeline.status import collection_status
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.sandbox import HttpFault
from embedding_assets_tests.moved_clock import later
from embedding_assets_tests.orchestration.deployment import Deployment, checks, plain
from embedding_assets_tests.receivers import webhook

pytestmark = [pytest.mark.dagster, pytest.mark.service]

MET = "the API account's quota or billing limit is met"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/files", "/v1/batches"])
def test_a_limit_is_told_once_and_shown_until_it_is_lifted(
    fresh: Deployment, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = fresh.cell
    about = f"[{cell.spec.name} {cell.day}] results_are_complete"
    cell.sandbox.set_fault(HttpFault(method="POST", path=path, status=402, times=None))
    with webhook() as hook:
        monkeypatch.setenv("EMBEDDING_ASSETS_ALERTS", hook.url)
        for _ in range(2):
            result = fresh.run_cell()
            assert result.success
            check = checks(result)["results_are_complete"]
            assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
            assert MET in (check.description or "")
            assert "20 records wait, and are asked for by themselves once it is lifted" in (check.description or "")
            assert plain(check.metadata)["waiting_for_quota"] == 20
            assert collection_status(cell.store, cell.spec).waiting_for_quota == 20
            rows = check_collection(cell.store, cell.spec, "quick", tmp_path).rows
            assert [MET in str(row["state"]) for row in rows if row["kind"] == "limit"] == [True]
            fresh.tick("alerts")
        assert hook.titles == [f"{about} failed (WARN)"]
        assert MET in hook.received[0]["message"]

        cell.sandbox.clear_faults()
        with later(hours=1):
            tick = fresh.tick("finished_batches")
            assert [one.partition_key for one in tick.requests] == [fresh.cell_partition]
            (result,) = fresh.obey(CELL_JOB, tick)
        assert checks(result)["results_are_complete"].passed
        fresh.tick("alerts")
        assert hook.titles[1:] == [f"{about} recovered"]
    cell.wait()
    assert cell.land().landings
    assert (cell.books().accepted, {row.attempt for row in cell.books().batches}) == (20, {1})
    assert not collection_status(cell.store, cell.spec).waiting_for_quota
