"""The code location: it loads without touching store or API, and declares what a user expects to find."""

from __future__ import annotations

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from embedding_assets.catalog import Catalog, parse_catalog
from embedding_assets.orchestration.assemble import build_definitions
from embedding_assets.orchestration.checks.requests import CLAIMED
from embedding_assets.orchestration.jobs import CELL_JOB, COMPACTION_JOB
from embedding_assets.orchestration.partitions import cell_key, cell_of, cell_partitions
from embedding_assets.orchestration.resources import ApiResource, StoreResource
from embedding_assets.store import layout

pytestmark = pytest.mark.dagster

ODD: dict[str, Any] = {
    "start": "2026-01-01",
    "collections": {
        "0-1_2": {"model": "text-embedding-3-large", "dimensions": 3072, "distance": "l2"},
        "a" * 63: {"model": "a model: of/its own", "dimensions": 1, "distance": "ip", "custom_id": "{any}"},
    },
}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return parse_catalog(ODD, "test")


@pytest.fixture(scope="module")
def definitions(catalog: Catalog) -> dg.Definitions:
    """With a store and an API that do not exist: loading asks neither."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return build_definitions(
            catalog,
            {
                "store": StoreResource(url="s3://no-such-bucket/at-all"),
                "api": ApiResource(base_url="http://127.0.0.1:9/v1"),
            },
        )


def test_definitions_of_odd_collections_load_and_validate_without_a_warning(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)
    assert {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()} == {
        "embedding_requests",
        "batch_results",
        "deltas",
        "snapshots",
    }
    assert {CELL_JOB, COMPACTION_JOB} <= {job.name for job in definitions.resolve_all_job_defs()}


def test_every_asset_with_data_has_a_blocking_check_with_its_own_partitions(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    blocking = set()
    for definition in definitions.asset_checks or ():
        assert isinstance(definition, dg.AssetChecksDefinition)
        for spec in definition.check_specs:
            assert spec.description
            # What belongs to no cell is looked at for all of them at once.
            own = None if spec.name == CLAIMED else graph.get(spec.asset_key).partitions_def
            assert spec.partitions_def == own
            if spec.blocking:
                blocking.add(spec.asset_key.to_user_string())
    assert blocking == {"batch_results", "deltas", "snapshots"}


def test_todays_cells_exist_and_tomorrows_do_not(catalog: Catalog) -> None:
    before = layout.now()
    keys = set(cell_partitions(catalog).get_partition_keys())
    days = {str(moment.date()) for moment in (before, layout.now())}
    for name in catalog.names:
        assert {cell_key(name, day) for day in days} & keys
        assert cell_key(name, "2026-01-01") in keys
        assert cell_key(name, "2025-12-31") not in keys
        assert cell_key(name, str((before + timedelta(days=2)).date())) not in keys


def test_a_cells_key_gives_collection_and_day_back_as_an_object_and_as_text(catalog: Catalog) -> None:
    for name in catalog.names:
        key = cell_key(name, "2026-03-04")
        assert cell_of(key) == cell_of(str(key)) == (name, "2026-03-04")


def test_sensors_and_the_schedule_that_spends_money_are_off_until_told(
    catalog: Catalog, definitions: dg.Definitions
) -> None:
    assert {s.default_status for s in definitions.sensors or ()} == {dg.DefaultSensorStatus.STOPPED}
    running = build_definitions(catalog, definitions.resources or {}, sensors_running=True, sensor_seconds=15)
    sensors = [s for s in running.sensors or () if isinstance(s, dg.SensorDefinition)]
    assert {s.default_status for s in sensors} == {dg.DefaultSensorStatus.RUNNING}
    assert {s.minimum_interval_seconds for s in sensors} == {15}
    for each in (definitions, running):
        spends = each.resolve_schedule_def("daily_requests")
        assert spends.default_status == dg.DefaultScheduleStatus.STOPPED
    assert running.resolve_schedule_def("daily_audit").default_status == dg.DefaultScheduleStatus.RUNNING


def test_the_schedule_asks_for_todays_cell_of_every_collection(catalog: Catalog, definitions: dg.Definitions) -> None:
    schedule = definitions.resolve_schedule_def("daily_requests")
    before = str(layout.now().date())
    answer = schedule.evaluate_tick(dg.build_schedule_context(repository_def=definitions.get_repository_def()))
    days = {before, str(layout.now().date())}
    asked = {str(request.partition_key) for request in answer.run_requests or ()}
    assert asked in [{str(cell_key(name, day)) for name in catalog.names} for day in days]
    assert asked <= set(cell_partitions(catalog).get_partition_keys())


def test_the_code_location_loads_from_an_environment_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedding_assets import definitions as location

    for name in ("EMBEDDING_ASSETS_ENV", "EMBEDDING_ASSETS_STORE", "EMBEDDING_ASSETS_SENSORS"):
        monkeypatch.setenv(name, "")  # so that what is exported is taken back after the test
        monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(
        f"EMBEDDING_ASSETS_STORE=file://{tmp_path}/store\nEMBEDDING_ASSETS_SENSORS=running\n"
    )
    monkeypatch.chdir(tmp_path)
    loaded = location.defs()
    dg.Definitions.validate_loadable(loaded)
    assert isinstance(loaded.resources, dict)
    assert loaded.resources["store"].url == f"file://{tmp_path}/store"
    assert not (tmp_path / "store").exists()
    assert {s.default_status for s in loaded.sensors or ()} == {dg.DefaultSensorStatus.RUNNING}


def test_a_location_of_a_file_of_ones_own_has_its_environments_file_and_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedding_assets.definitions import definitions_of

    for name in ("EMBEDDING_ASSETS_ENV", "EMBEDDING_ASSETS_STORE", "EMBEDDING_ASSETS_PREFIX"):
        monkeypatch.setenv(name, "")  # so that what is exported is taken back after the test
        monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(f"EMBEDDING_ASSETS_STORE=file://{tmp_path}/elsewhere\n")
    (tmp_path / ".env.receipts").write_text(
        f"EMBEDDING_ASSETS_STORE=file://{tmp_path}/store\nEMBEDDING_ASSETS_PREFIX=receipts\n"
    )
    monkeypatch.chdir(tmp_path)
    loaded = definitions_of("receipts")
    dg.Definitions.validate_loadable(loaded)
    assert loaded.resources is not None
    assert loaded.resources["receipts_store"].url == f"file://{tmp_path}/store"
    assert {key.path[0] for key in loaded.resolve_asset_graph().get_all_asset_keys()} == {"receipts"}
