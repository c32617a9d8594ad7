"""Two sets of collections in one project: each with names, resources, stores and runs of its own."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from embedding_assets.errors import ConfigurationError
from embedding_assets.orchestration.assemble import build_definitions
from embedding_assets.orchestration.audit import AUDIT_JOB
from embedding_assets.orchestration.jobs import CELL_JOB, COMPACTION_JOB
from embedding_assets.orchestration.partitions import cell_key
from embedding_assets.orchestration.resources import ApiResource, StoreResource
from embedding_assets.sandbox import Sandbox
from embedding_assets_tests.cells import Cell, contents, receipt_lines
from embedding_assets_tests.orchestration.deployment import KEY_VARIABLE, trouble

pytestmark = [pytest.mark.dagster, pytest.mark.service]


@pytest.fixture
def other(sandbox: Sandbox, tmp_path: Path) -> Cell:
    """A second set's collection, with a store of its own."""
    (tmp_path / "other").mkdir()
    made = Cell.make(sandbox, tmp_path / "other")
    made.write(receipt_lines(5))
    return made


def definitions_of(cell: Cell, prefix: str) -> dg.Definitions:
    api = ApiResource(base_url=cell.sandbox.base_url, api_key=dg.EnvVar(KEY_VARIABLE))
    return build_definitions(cell.catalog, {"store": StoreResource(url=cell.store.url), "api": api}, prefix=prefix)


def test_two_sets_in_one_project_do_not_touch_each_other(cell: Cell, other: Cell, instance: dg.DagsterInstance) -> None:
    project = dg.Definitions.merge(definitions_of(cell, ""), definitions_of(other, "second"))
    dg.Definitions.validate_loadable(project)
    before = contents(cell.store)

    def run(job: str, partition: str | None, *assets: str) -> dg.ExecuteInProcessResult:
        done = project.resolve_job_def(job).execute_in_process(
            instance=instance,
            partition_key=partition,
            asset_selection=[dg.AssetKey(["second", name]) for name in assets] or None,
            raise_on_error=False,
        )
        assert done.success, trouble(done)
        return done

    run(f"second_{CELL_JOB}", cell_key(other.spec.name, other.day), "embedding_requests")
    other.wait()
    sensor = project.resolve_sensor_def("second_finished_batches")
    with dg.build_sensor_context(instance=instance, definitions=project, resources=project.resources) as context:
        (request,) = sensor.evaluate_tick(context).run_requests or ()
    assert request.partition_key == cell_key(other.spec.name, other.day)
    assert {key.path[0] for key in request.asset_selection or ()} == {"second"}
    run(f"second_{CELL_JOB}", request.partition_key, "batch_results", "deltas")
    run(f"second_{COMPACTION_JOB}", other.spec.name)
    run(f"second_{AUDIT_JOB}", None)

    assert other.proof().accepted == 5
    assert contents(cell.store) == before
    told = {record.asset_check_key for record in _checks(instance)}
    assert told >= {
        dg.AssetCheckKey(dg.AssetKey(["second", asset]), check)
        for asset, check in (
            ("batch_results", "results_are_complete"),
            ("deltas", "deltas_are_whole"),
            ("snapshots", "snapshot_is_whole"),
        )
    }


def _checks(instance: dg.DagsterInstance) -> list[dg.AssetCheckEvaluation]:
    entries = [
        e.event_log_entry for run in instance.get_runs() for e in instance.get_records_for_run(run.run_id).records
    ]
    return [entry.asset_check_evaluation for entry in entries if entry.asset_check_evaluation]


def test_a_set_without_resources_of_its_own_takes_those_of_the_project(cell: Cell) -> None:
    project = {"store": StoreResource(url=cell.store.url), "api": ApiResource(base_url=cell.sandbox.base_url)}
    sets = [build_definitions(cell.catalog, {}, prefix=prefix) for prefix in ("first", "second")]
    dg.Definitions.validate_loadable(dg.Definitions.merge(*sets, dg.Definitions(resources=project)))


@pytest.mark.parametrize("prefix", ["1st", "a b", "a/b", "ä", "a" * 64])
def test_a_prefix_that_cannot_begin_names_is_refused_with_what_would_be_right(cell: Cell, prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="EMBEDDING_ASSETS_PREFIX"):
        build_definitions(cell.catalog, {}, prefix=prefix)
