"""Materializing as a user does: what the runs do, what their metadata and checks say, and how they fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from embedding_assets.batches.balance import balance
from embedding_assets.batches.files import read_parquet, store_file, write_parquet
from embedding_assets.batches.landing import counting_landings, outcome_of
from embedding_assets.orchestration.checks.requests import CLAIMED
from embedding_assets.pipeline.quality import CHECKS
from embedding_assets.records import ContentDigest, RecordBatch
from embedding_assets.sandbox import BatchFault, LineFault
from embedding_assets.store import layout
from embedding_assets.store.sealed import encode
from embedding_assets.vectorstore.delta import list_deltas, load_deltas
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets_tests.cells import contents, flip, receipt_lines
from embedding_assets_tests.moved_clock import later
from embedding_assets_tests.orchestration.deployment import Deployment, checks, metadata, plain, started, trouble

pytestmark = [pytest.mark.dagster, pytest.mark.service]


def test_a_cell_and_then_its_collection_materialize_and_say_what_was_found(fresh: Deployment) -> None:
    asked = fresh.run_cell("embedding_requests")
    assert asked.success
    said = metadata(asked, "embedding_requests")
    assert (said["submitted_records"], said["submitted_batches"], said["known_documents"]) == (20, 2, 0)
    assert [(row["records"], row["attempt"], row["action"]) for row in said["batches"]] == [(10, 1, "submitted")] * 2

    fresh.cell.wait()
    landed = fresh.run_cell("batch_results", "deltas")
    assert landed.success
    said = metadata(landed, "batch_results")
    assert (said["landed_batches"], said["accepted_records"], said["rejected_records"]) == (2, 20, 0)
    assert said["tokens"] > 0
    assert {(row["state"], row["status"], row["accepted"]) for row in said["batches"]} == {("landed", "completed", 10)}
    said = metadata(landed, "deltas")
    assert (said["built_deltas"], said["built_records"], said["deltas_of_cell"]) == (1, 20, 1)
    (delta,) = said["deltas"]
    assert (delta["new"], delta["records"], delta["batches"]) == (True, 20, 2)

    compacted = fresh.run_compaction()
    assert compacted.success
    said = metadata(compacted, "snapshots")
    assert (said["records"], said["added_records"], said["generation"], said["parent"]) == (20, 20, 1, "none")
    assert [row["delta"] for row in said["deltas"]] == [delta["delta"]]
    with fresh.cell.read() as lines:
        assert (lines.version, lines.count()) == (said["version"], 20)

    partitions = {
        str(event.asset_key): event.partition
        for result in fresh.results
        for event in result.get_asset_materialization_events()
    }
    assert set(partitions.values()) == {fresh.cell_partition, fresh.cell.spec.name}


def test_each_declared_check_is_evaluated_once_passes_and_carries_its_partition(complete: Deployment) -> None:
    declared = {key.name for one in complete.definitions.asset_checks or () for key in one.check_keys}
    results = [complete.run_cell(), complete.run_compaction()]
    evaluated: dict[str, dg.AssetCheckEvaluation] = {}
    for result in results:
        assert result.success
        assert not evaluated.keys() & checks(result).keys()
        evaluated |= checks(result)
    assert evaluated.keys() == declared
    assert all(evaluation.passed for evaluation in evaluated.values())
    name = complete.cell.spec.name
    assert {check: evaluation.partition for check, evaluation in evaluated.items()} == {
        CLAIMED: None,
        "results_are_complete": complete.cell_partition,
        "rejects_are_few": complete.cell_partition,
        "deltas_are_whole": complete.cell_partition,
        "snapshot_is_whole": name,
        **dict.fromkeys(CHECKS, name),
    }
    assert plain(evaluated["results_are_complete"].metadata)["requested"] == 20
    assert plain(evaluated["deltas_are_whole"].metadata)["verdicts"][0]["verdict"] == "valid"
    assert plain(evaluated["snapshot_is_whole"].metadata)["accepted"] == 20


def test_materializing_everything_again_changes_no_object_in_the_store(complete: Deployment) -> None:
    assert complete.run_compaction().success  # which makes the report of the snapshot
    before = contents(complete.cell.store)
    result = complete.run_cell()
    assert result.success
    assert metadata(result, "embedding_requests")["submitted_batches"] == 0
    assert metadata(result, "embedding_requests")["known_documents"] == 20
    assert metadata(result, "batch_results")["batches_with_a_delta"] == 2
    assert metadata(result, "deltas")["built_deltas"] == 0
    result = complete.run_compaction()
    assert metadata(result, "snapshots")["note"] == "the snapshot lacked nothing; it is unchanged"
    assert contents(complete.cell.store) == before


def test_an_empty_cell_and_a_collection_without_deltas_materialize(fresh: Deployment) -> None:
    fresh.cell.write({})
    assert fresh.run_cell().success
    result = fresh.run_compaction()
    assert result.success
    assert metadata(result, "snapshots")["note"] == "there is no delta yet, hence nothing to compact"
    assert checks(result)["snapshot_is_whole"].passed


def test_batches_that_are_not_finished_are_pending_and_no_failure(fresh: Deployment) -> None:
    fresh.cell.sandbox.set_fault(BatchFault(seconds=600, times=2, metadata={"collection": fresh.cell.spec.name}))
    result = fresh.run_cell()
    assert result.success
    assert metadata(result, "batch_results")["pending_batches"] == 2
    assert "20 are pending" in (checks(result)["results_are_complete"].description or "")
    for batch_id in fresh.cell.batch_ids():
        fresh.cell.api.cancel(batch_id)


def test_rejected_records_are_a_warning_by_name(fresh: Deployment) -> None:
    fresh.cell.sandbox.set_fault(
        BatchFault(
            times=None,
            lines=(LineFault("zero_vector", custom_ids=("line-00013",)),),
            metadata={"collection": fresh.cell.spec.name},
        )
    )
    for turn in range(fresh.cell.spec.attempts):
        with later(hours=2 * turn):
            assert fresh.run_cell("embedding_requests").success
            fresh.cell.wait()
            result = fresh.run_cell("batch_results", "deltas")
            assert result.success
    check = checks(result)["results_are_complete"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    (rejection,) = plain(check.metadata)["rejections"]
    assert rejection["name"] == "line-00013"
    assert "zero" in rejection["reason"]
    assert checks(result)["deltas_are_whole"].passed


def test_documents_that_cannot_be_asked_are_named(fresh: Deployment) -> None:
    path = fresh.cell.folder / "documents" / f"{fresh.cell.day}.jsonl"
    path.write_text(path.read_text() + '{"id": "line-00099", "text": ""}\n')
    result = fresh.run_cell("embedding_requests")
    assert result.success
    said = metadata(result, "embedding_requests")
    assert (said["submitted_records"], said["refused_documents"]) == (20, 1)
    assert said["refused"] == [{"document": f"{path}:21", "reason": "the text is empty"}]


def forget_a_record(deployment: Deployment, folder: Path) -> str:
    """A landing that forgot one of its records, with all that it says made to fit, as a program's mistake would."""
    cell = deployment.cell
    landing = counting_landings(cell.store, cell.spec.name, cell.day)[0]
    tables = [read_parquet(cell.store, landing.folder, file) for file in (landing.records_file, landing.accepted_file)]
    row = tables[0].column("id").to_pylist().index(forgotten := str(tables[1].column("id")[0]))
    records = pa.concat_tables([tables[0].slice(0, row), tables[0].slice(row + 1)]).combine_chunks()
    files = [
        store_file(cell.store, landing.folder, write_parquet(table, folder / file.name))
        for table, file in ((records, landing.records_file), (tables[1].slice(1), landing.accepted_file))
    ]
    digest = ContentDigest()
    digest.add(RecordBatch.from_arrow(records))
    counts = landing.missing, landing.repeated, landing.stray
    forged = replace(
        landing,
        accepted=landing.accepted - 1,
        digest=digest.hex(),
        outcome=outcome_of(landing.status, digest.hex(), landing.accepted - 1, [], *counts),
        records_file=files[0],
        accepted_file=files[1],
    )
    key = f"{landing.folder}/{layout.MANIFEST}"
    cell.store.replace(key, encode(forged, key))
    return forgotten


def test_a_landing_that_does_not_add_up_is_moved_aside_and_nothing_is_built_of_it(
    fresh: Deployment, tmp_path: Path
) -> None:
    fresh.run_cell("embedding_requests")
    fresh.cell.wait()
    fresh.run_cell("batch_results")
    forget_a_record(fresh, tmp_path)
    api = fresh.cell.api
    for batch in api.list_batches(0):  # else the results are had again at once
        if batch.metadata.get("collection") == fresh.cell.spec.name and batch.output_file_id:
            api._client.files.delete(batch.output_file_id)
    result = fresh.run_cell("batch_results", "deltas")
    assert result.success
    assert "all 20 records are accounted for; 10 are pending" in (
        checks(result)["results_are_complete"].description or ""
    )
    assert metadata(result, "deltas")["built_records"] == 10
    assert [entry.kind for entry in list_quarantine(fresh.cell.store, fresh.cell.spec.name)] == ["landing"]


def test_results_that_do_not_add_up_fail_the_run_and_nothing_is_built_of_them(
    landed_only: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No damage is known that leads here: what the store holds is healed or waited for before it is counted.
    monkeypatch.setattr(
        "embedding_assets.orchestration.checks.results.balance",
        lambda *args: replace(balance(*args), unaccounted=("line-00007",)),
    )
    result = landed_only.run_cell("batch_results", "deltas")
    assert not result.success
    check = checks(result)["results_are_complete"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "1 of 20 records are unaccounted for" in (check.description or "")
    assert plain(check.metadata)["unaccounted_ids"] == ["line-00007"]
    assert "deltas" not in started(result)


def test_a_delta_damaged_in_the_store_fails_the_check_and_is_moved_aside_by_compaction(complete: Deployment) -> None:
    cell = complete.cell
    cell.write(receipt_lines(25))
    (built,) = cell.deliver().built
    flip(cell.store, f"{built.folder}/chroma.sqlite3")
    result = complete.run_cell("deltas")
    assert not result.success
    check = checks(result)["deltas_are_whole"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert built.id in (check.description or "")
    assert "chroma.sqlite3 is not the one in the manifest" in (check.description or "")
    assert {row["delta"]: row["verdict"] for row in plain(check.metadata)["verdicts"]}[built.id] == "corrupted"

    result = complete.run_compaction()
    assert result.success
    assert metadata(result, "snapshots")["quarantined"] == 1
    assert [entry.name for entry in list_quarantine(cell.store, cell.spec.name)] == [built.id]
    with cell.read() as lines:
        assert lines.count() == 20

    assert cell.to_run(), "its batches are pending again"  # the sensor asks after a pause: a run has just failed
    assert complete.run_cell("batch_results", "deltas").success
    assert complete.run_compaction().success
    with cell.read() as lines:
        assert lines.count() == 25


def test_a_damaged_delta_is_moved_aside_by_the_next_run_of_its_cell(complete: Deployment) -> None:
    cell = complete.cell
    (broken,) = load_deltas(cell.store, list_deltas(cell.store, cell.spec.name, cell.day))
    cell.store.replace(broken.key, b"{")
    result = complete.run_cell()
    assert result.success
    assert metadata(result, "batch_results")["quarantined_deltas"] == 1
    assert metadata(result, "deltas")["built_records"] == 20
    assert checks(result)["deltas_are_whole"].passed
    result = complete.run_cell()
    assert metadata(result, "deltas")["built_deltas"] == 0


def lose_a_file(deployment: Deployment) -> None:
    store, name = deployment.cell.store, deployment.cell.spec.name
    store.delete([i.key for i in store.walk(layout.snapshots(name)) if i.key.endswith("/length.bin")])


def lose_the_manifest(deployment: Deployment) -> None:
    store, name = deployment.cell.store, deployment.cell.spec.name
    store.delete([i.key for i in store.walk(layout.snapshots(name)) if i.key.endswith(f"/{layout.MANIFEST}")])


@pytest.mark.parametrize("damage", [lose_a_file, lose_the_manifest])
def test_a_damaged_snapshot_is_replaced_by_the_next_compaction(
    complete: Deployment, damage: Callable[[Deployment], None]
) -> None:
    damage(complete)
    result = complete.run_compaction()
    assert result.success
    assert checks(result)["snapshot_is_whole"].passed
    assert metadata(result, "snapshots")["generation"] == 2
    with complete.cell.read() as lines:
        assert lines.count() == 20


def test_batch_ids_in_the_run_config_are_polled_and_no_others(complete: Deployment) -> None:
    first, second = complete.cell.batch_ids()
    result = complete.run_cell("batch_results", batch_ids=[f" {second},\n"])
    assert result.success
    states = {row["batch"]: row["state"] for row in metadata(result, "batch_results")["batches"]}
    assert states == {first: "skipped", second: "unchanged"}


def test_batch_ids_that_the_cell_does_not_have_fail_the_run_by_name(complete: Deployment) -> None:
    result = complete.run_cell("batch_results", batch_ids=["batch_of_another_day"])
    assert not result.success
    assert "has no batches batch_of_another_day" in trouble(result)


def test_a_run_says_which_run_wrote_a_delta(landed_only: Deployment) -> None:
    result = landed_only.run_cell("deltas")
    cell = landed_only.cell
    (manifest,) = load_deltas(cell.store, list_deltas(cell.store, cell.spec.name, cell.day))
    assert manifest.run_id == result.run_id


def test_a_check_that_is_executed_for_no_partition_says_what_to_do_instead(complete: Deployment) -> None:
    # The button `Execute all` of a check's page launches this.
    checks = dg.AssetSelection.checks_for_assets(dg.AssetKey("deltas"))
    button = dg.Definitions(jobs=[dg.define_asset_job("execute_all", selection=checks)])
    job = dg.Definitions.merge(complete.definitions, button).resolve_job_def("execute_all")
    result = job.execute_in_process(instance=complete.instance, raise_on_error=False)
    assert "launch the job `audit`" in trouble(result)
