"""Batches of other programs in Dagster: found and landed; ids with several texts and batches of nobody are told.

They have a service of their own: at the one that tests share they would be batches of nobody in each other test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from embedding_assets.batches.discover import mark_folder
from embedding_assets.batches.requests import read_requests
from embedding_assets.orchestration.jobs import CELL_JOB
from embedding_assets.orchestration.partitions import cell_key
from embedding_assets.sandbox import Sandbox
from embedding_assets.store import layout
from embedding_assets_tests.cells import Cell, wait_for_another_second
from embedding_assets_tests.moved_clock import later
from embedding_assets_tests.orchestration.deployment import KEY_VARIABLE, Deployment, checks, metadata, plain
from embedding_assets_tests.receivers import webhook
from embedding_assets_tests.sandbox import asking

pytestmark = [pytest.mark.dagster, pytest.mark.service]

MONDAY, TUESDAY = ([f"{day} {n}" for n in range(3)] for day in ("monday", "tuesday"))


@pytest.fixture
def alone(tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A collection without documents at a service that nobody else uses."""
    with Sandbox.start(tmp_path / "service") as sandbox:
        monkeypatch.setenv(KEY_VARIABLE, sandbox.api_key)
        today = layout.day_of(layout.now().timestamp())  # the day of batches that other programs submit now
        yield Deployment.of(replace(Cell.make(sandbox, tmp_path, documents=None), day=today), instance)


def send(cell: Cell, texts: Sequence[str], **metadata: str) -> str:
    """Submit texts as another program does whose ids begin anew in every file."""
    body = {"model": cell.spec.model, "dimensions": cell.spec.dimensions}
    path = cell.folder / "input.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "custom_id": f"request-{n}",
                    "method": "POST",
                    "url": "/v1/embeddings",
                    "body": {**body, "input": text},
                }
            )
            + "\n"
            for n, text in enumerate(texts)
        )
    )
    return cell.api.create_batch(cell.api.upload(path), metadata).id


def found(deployment: Deployment, check: str) -> dg.AssetCheckEvaluation:
    result = deployment.run_cell()
    assert result.success
    return checks(result)[check]


def test_a_batch_of_another_program_is_found_landed_and_searched(
    alone: Deployment, instance: dg.DagsterInstance
) -> None:
    spec = alone.cell.spec.model_copy(update={"custom_id": "SHELF#{shelf:int}#GOOD#{good:int}"})
    cell = replace(alone.cell, spec=spec)
    lines = [asking.line(f"SHELF#7#GOOD#{n}", f"jar {n} of honey", dimensions=64) for n in range(6)]
    batch = asking.run(cell.sandbox, lines, metadata={"collection": cell.spec.name})
    deployment = Deployment.of(replace(cell, day=layout.day_of(batch.created_at)), instance)
    result = deployment.run_cell()
    assert result.success
    assert metadata(result, "embedding_requests")["found_batches"] == 1
    assert metadata(result, "batch_results")["accepted_records"] == 6
    assert deployment.run_compaction().success
    with cell.read() as found:
        (record,) = found.query("jar 4 of honey", n=1)
        assert (record.id, record.batch_id) == ("SHELF#7#GOOD#4", batch.id)
        assert record.metadata == {"shelf": 7, "good": 4}


def test_ids_that_batches_use_for_different_texts_are_told_once_by_name(
    alone: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = alone.cell
    with webhook() as hook:
        monkeypatch.setenv("EMBEDDING_ASSETS_ALERTS", hook.url)
        batches = [send(cell, MONDAY, collection=cell.spec.name)]
        one = found(alone, "results_are_complete")
        assert (one.passed, plain(one.metadata)["colliding_ids"]) == (True, 0)
        wait_for_another_second()
        batches.append(send(cell, [*TUESDAY[:2], MONDAY[2]], collection=cell.spec.name))
        for _ in range(2):
            one = found(alone, "results_are_complete")
            assert (one.passed, one.severity) == (False, dg.AssetCheckSeverity.WARN)
            said = one.description or ""
            assert "2 ids, such as request-0 for different texts" in said
            assert all(batch in said for batch in batches)
            assert plain(one.metadata)["colliding_ids"] == 2
            named = [{"id": f"request-{n}", "texts": 2, "batches": ", ".join(batches)} for n in range(2)]
            assert plain(one.metadata)["collisions"] == named
            alone.tick("alerts")
        assert hook.titles == [f"[{cell.spec.name} {cell.day}] results_are_complete failed (WARN)"]
        assert "give each text an id of its own" in hook.received[0]["message"]
    cell.wait()
    assert cell.land().landings


def test_a_record_of_another_cell_that_cannot_be_read_holds_up_no_results(alone: Deployment) -> None:
    cell = alone.cell
    send(cell, MONDAY, collection=cell.spec.name)
    assert found(alone, "results_are_complete").passed
    (asked,) = read_requests(cell.store, cell.spec.name, cell.day)
    day = str(date.fromisoformat(cell.day) - timedelta(days=1))
    key = f"{layout.requests(cell.spec.name, day, asked.request.request_id)}/{layout.REQUEST}"
    cell.store.put_new(key, b"damaged")
    cell.wait()
    result = alone.run_cell("batch_results", "deltas")
    assert result.success
    assert checks(result)["results_are_complete"].passed


def test_batches_of_no_collection_are_told_once_whichever_cells_run_until_there_are_none(
    alone: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, check = alone.cell, "batches_are_claimed"
    before = cell_key(cell.spec.name, str(date.fromisoformat(cell.day) - timedelta(days=1)))
    with webhook() as hook:
        monkeypatch.setenv("EMBEDDING_ASSETS_ALERTS", hook.url)
        assert found(alone, check).passed
        strange = {send(cell, MONDAY, collection="elsewhere"): "not declared", send(cell, TUESDAY): "no collection"}
        for partition in (alone.cell_partition, before, alone.cell_partition):
            result = alone.run(CELL_JOB, partition)
            assert result.success
            one = checks(result)[check]
            assert (one.passed, one.severity, one.partition) == (False, dg.AssetCheckSeverity.WARN, None)
            said: dict[str, Any] = plain(one.metadata)
            assert said["unclaimed_batches"] == 2
            assert {row["batch"] for row in said["batches"]} == set(strange)
            assert all(strange[row["batch"]] in row["reason"] for row in said["batches"])
            assert all(batch in (one.description or "") for batch in strange)
            alone.tick("alerts")
        assert hook.titles == [f"{check} failed (WARN)"]
        with later(hours=32 * 24):
            result = alone.run(CELL_JOB, before)
            assert checks(result)[check].passed
        alone.tick("alerts")
        assert hook.titles[1:] == [f"{check} recovered"]


def test_a_damaged_mark_of_a_batch_is_a_warning_and_fails_no_run(alone: Deployment) -> None:
    cell = alone.cell
    send(cell, MONDAY)
    assert not found(alone, "batches_are_claimed").passed
    (mark,) = cell.store.walk(mark_folder(alone.catalog))
    cell.store.replace(mark.key, b"damaged")
    one = found(alone, "batches_are_claimed")
    assert (one.passed, one.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"could not be judged: {mark.key}" in (one.description or "")
