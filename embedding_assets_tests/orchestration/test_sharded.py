"""The asset `snapshots` of several steps: shards side by side, one version, whatever goes wrong between the steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from embedding_assets.orchestration.assets import sharded
from embedding_assets.orchestration.jobs import COMPACTION_JOB
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import head, load_snapshot
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.orchestration.deployment import checks, metadata, started
from embedding_assets_tests.orchestration.sharded_job import (
    CACHE_VARIABLE,
    SHARDS,
    STORE_VARIABLE,
    compaction_job,
    sharded_definitions,
)
from embedding_assets_tests.vectorstore.worlds import deliver

pytestmark = pytest.mark.dagster
STEPS = {f"compact_shards.make_shard[shard_00{shard}_of_003]" for shard in range(SHARDS)}
AROUND = {"compact_shards.plan_shards", "compact_shards.publish_shards"}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def store(folder_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A store with one delta of 60 records, which the definitions find by the environment."""
    monkeypatch.setenv(STORE_VARIABLE, folder_store.url)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    deliver(folder_store, tmp_path, "a", numbered(0, 60))
    return folder_store


def run(instance: dg.DagsterInstance, collection: str = "lines") -> dg.ExecuteInProcessResult:
    job = sharded_definitions(dg.in_process_executor).resolve_job_def(COMPACTION_JOB)
    return job.execute_in_process(instance=instance, partition_key=collection, raise_on_error=False)


def current(store: ObjectStore) -> Manifest:
    commit = head(store, "lines")
    assert commit is not None
    return load_snapshot(store, "lines", commit)


def test_shards_are_made_by_a_step_each_and_published_as_one_version(
    store: ObjectStore, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    first = run(instance)
    assert first.success
    assert started(first) >= STEPS | AROUND
    said = metadata(first, "snapshots")
    assert (said["records"], said["shards"], said["added_records"]) == (60, SHARDS, 60)
    assert said["version"] == current(store).id
    assert all(check.passed for check in checks(first).values())
    # Nothing to do: no shard is touched.
    again = run(instance)
    assert again.success
    assert not started(again) & STEPS
    assert metadata(again, "snapshots")["version"] == said["version"]
    # A collection with one shard needs no such steps.
    single = run(instance, "words")
    assert single.success
    assert started(single) >= AROUND
    assert not any("make_shard" in step for step in started(single))


def test_what_does_not_go_as_planned_is_done_by_the_last_step(
    store: ObjectStore, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, rival = sharded.make_shard, []

    def overtaken(*arguments: Any, **more: Any) -> Any:
        if not rival:
            rival.append(True)
            deliver(store, tmp_path, "b", numbered(60, 70))
            compact(store, SPEC.model_copy(update={"shards": 2}), run_id="rival", scratch=tmp_path)
        return real(*arguments, **more)

    monkeypatch.setattr(sharded, "make_shard", overtaken)
    result = run(instance)
    assert result.success
    said = metadata(result, "snapshots")
    assert (said["records"], said["shards"], said["lost_races"]) == (70, SHARDS, 1)
    assert current(store).count == 70


def test_the_steps_may_have_processes_of_their_own(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preload = {"preload_modules": ["embedding_assets_tests.orchestration.sharded_job"]}
    config = {"max_concurrent": 2, "start_method": {"forkserver": preload}}
    home = tmp_path / "home"
    home.mkdir()
    with (
        dg.instance_for_test(temp_dir=str(home)) as instance,
        dg.execute_job(
            dg.reconstructable(compaction_job),
            instance,
            run_config={"execution": {"config": config}},
            tags={"dagster/partition": "lines"},
            asset_selection=[dg.AssetKey("snapshots")],
        ) as result,
    ):
        assert result.success
        by_process = {event.pid for event in result.all_events if event.is_step_success}
        assert {str(event.step_key) for event in result.all_events if event.is_step_success} >= STEPS | AROUND
        assert len(by_process) > 1
    manifest = current(store)
    assert (manifest.count, len(manifest.parts)) == (60, SHARDS)
