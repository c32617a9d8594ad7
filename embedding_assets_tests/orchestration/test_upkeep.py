"""What is done by hand, as jobs; the standing audit; old data that a deployment finds when it is first turned on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import chromadb
import dagster as dg
import numpy as np
import pytest

from embedding_assets.batches.balance import balance
from embedding_assets.cli.app import _register, app
from embedding_assets.orchestration.forms import pasted
from embedding_assets.orchestration.jobs import CELL_JOB, COMPACTION_JOB
from embedding_assets.orchestration.resources import StoreResource
from embedding_assets.scratch import dead_folders
from embedding_assets.store import layout
from embedding_assets.vectorstore import verify
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.delta import list_deltas, load_deltas
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets_tests.cells import contents, flip, receipt_lines
from embedding_assets_tests.ground.test_scratch import HOLDS, running
from embedding_assets_tests.orchestration.deployment import Deployment, metadata, plain, trouble
from embedding_assets_tests.receivers import webhook

pytestmark = [pytest.mark.dagster, pytest.mark.service]

# What makes a database for a person's own machine, or reads for a program.
NOT_JOBS = {"demo", "dev", "query"}
# What the form cannot know.
REQUIRED: dict[str, dict[str, Any]] = {
    "snapshots_rollback": {"version": "0000000001-20260101T000000000000-00000000"},
    "batches_poll": {"ids": ["batch_x"]},
    "batches_cancel": {"ids": ["batch_x"]},
    "batches_give_up": {"ids": ["batch_x"]},
    "deltas_delete": {"ids": ["20260101T000000000000-00000000"]},
    "quarantine_restore": {"kind": "delta", "name": "x"},
}
LOOKS = [
    "status",
    "check",
    "snapshots_list",
    "snapshots_verify",
    "deltas_list",
    "deltas_verify",
    "quarantine_list",
    "report",
    "batches_list",
]
JOBS = [
    "repair",
    "prune",
    "snapshots_delete",
    "snapshots_rollback",
    "snapshots_rebuild",
    "deltas_delete",
    "deltas_clean",
    "quarantine_restore",
    "quarantine_purge",
    "batches_poll",
    "batches_cancel",
    "batches_give_up",
]


def launch(
    deployment: Deployment,
    job: str,
    config: Mapping[str, Any] | None = None,
    *,
    op: str | None = None,
    raise_on_error: bool = False,
) -> dg.ExecuteInProcessResult:
    """Run a job without partitions, with the options of its form."""
    return deployment.definitions.resolve_job_def(job).execute_in_process(
        instance=deployment.instance,
        run_config={"ops": {op or job.removeprefix("upkeep_"): {"config": dict(config or {})}}},
        raise_on_error=raise_on_error,
    )


def audit(deployment: Deployment, **config: Any) -> dg.ExecuteInProcessResult:
    return launch(deployment, "audit", config, op="verify_everything")


def evaluations(deployment: Deployment, check: str, asset: str) -> dict[str, dg.AssetCheckEvaluation]:
    """The last evaluation of a check, by partition."""
    found: dict[str, dg.AssetCheckEvaluation] = {}
    for record in reversed(
        deployment.instance.get_event_records(dg.EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION))
    ):
        event = record.event_log_entry.dagster_event
        assert event is not None
        one = event.asset_check_evaluation_data
        if (one.check_name, one.asset_key) == (check, dg.AssetKey(asset)):
            found[str(one.partition)] = one
    return found


def observations(result: dg.ExecuteInProcessResult) -> list[dg.AssetObservation]:
    return [
        event.asset_observation_data.asset_observation
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_OBSERVATION
    ]


def only_delta(deployment: Deployment) -> Manifest:
    cell = deployment.cell
    (delta,) = load_deltas(cell.store, list_deltas(cell.store, cell.spec.name))
    return delta


def file_of(manifest: Manifest, name: str) -> str:
    return next(f"{manifest.folder}/{e.path}" for e in manifest.files if e.path.endswith(name))


def current(deployment: Deployment) -> str:
    commit = head(deployment.cell.store, deployment.cell.spec.name)
    assert commit is not None
    assert commit.version is not None
    return commit.version


def damage_snapshot(deployment: Deployment) -> str:
    """Cut the current snapshot's SQLite file; its version."""
    version, store = current(deployment), deployment.cell.store
    key = f"{layout.snapshots(deployment.cell.spec.name, version)}/chroma.sqlite3"
    store.replace(key, store.get(key)[:5000])
    return version


def moved_aside(deployment: Deployment) -> dict[str, str]:
    """Names and reasons of what lies in quarantine; every entry has its report."""
    found = {}
    for entry in list_quarantine(deployment.cell.store, deployment.cell.spec.name):
        assert entry.report is not None
        found[entry.name] = entry.report.reason
    return found


def obey_until_quiet(deployment: Deployment) -> None:
    """Run what the sensors ask for until they ask for nothing."""
    for _ in range(6):
        cells = deployment.tick("finished_batches")
        for result in deployment.obey(CELL_JOB, cells):
            assert result.success, trouble(result)
        compactions = deployment.tick("lacking_snapshots")
        for result in deployment.obey(COMPACTION_JOB, compactions):
            assert result.success, trouble(result)
        if not cells.requests and not compactions.requests:
            return
    raise AssertionError("the sensors never come to rest")


def assert_sound(deployment: Deployment, records: int) -> None:
    """So many records were accepted, and every one is in the snapshot."""
    proof = deployment.cell.proof()
    assert (proof.problems, proof.lost, proof.waiting, proof.accepted) == ((), (), 0, records)
    assert balance(deployment.cell.store, deployment.cell.spec, deployment.cell.day).balanced


@pytest.mark.parametrize("name", JOBS)
def test_every_command_is_a_job_whose_form_is_a_dry_run_unless_told_otherwise(complete: Deployment, name: str) -> None:
    job = complete.definitions.resolve_job_def(f"upkeep_{name}")
    assert job.description
    (op,) = (one for one in job.all_node_defs if isinstance(one, dg.OpDefinition))
    fields = op.config_schema.config_type.fields  # type: ignore[union-attr]
    assert fields["dry_run"].default_value is True
    assert {key for key, one in fields.items() if one.is_required} == set(REQUIRED.get(name, {}))
    assert all(one.description for one in fields.values())


def test_every_command_of_the_command_line_is_a_job(complete: Deployment) -> None:
    _register()
    commands = {one.name or (one.callback and one.callback.__name__) for one in app.registered_commands}
    commands |= {
        f"{group.name}_{one.name or (one.callback and one.callback.__name__)}"
        for group in app.registered_groups
        if group.typer_instance
        for one in group.typer_instance.registered_commands
    }
    jobs = {job.name.removeprefix("upkeep_") for job in complete.definitions.resolve_all_job_defs()}
    commands = {str(one).replace("-", "_") for one in commands}
    assert commands - jobs <= NOT_JOBS, "what the command line does can be launched in the UI, too"


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_changes_nothing_and_leaves_a_table_in_the_assets_history(complete: Deployment, name: str) -> None:
    if name == "report":
        assert launch(complete, "upkeep_report").success  # the first one makes it
    complete.results.clear()
    before = contents(complete.cell.store)
    result = launch(complete, f"upkeep_{name}", {"collections": [f" {complete.cell.spec.name},\n"]})
    assert result.success, trouble(result)
    (observed,) = observations(result)
    said = plain(observed.metadata)
    assert (said["operation"], said["collection"]) == (name, complete.cell.spec.name)
    assert said["done"] or name == "quarantine_list"
    assert contents(complete.cell.store) == before


@pytest.mark.parametrize("name", ["check", "deltas_verify"])
def test_a_look_that_finds_corruption_fails_after_it_told_all(complete: Deployment, name: str) -> None:
    delta = only_delta(complete)
    flip(complete.cell.store, file_of(delta, "chroma.sqlite3"))
    result = launch(complete, f"upkeep_{name}")
    assert delta.id in trouble(result)
    (observed,) = observations(result)
    assert {row["name"]: row["verdict"] for row in plain(observed.metadata)["done"]}[delta.id] == "corrupted"


def test_alerts_are_listed_and_channels_are_tested(complete: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch(complete, "upkeep_alerts_list").success
    with webhook() as hook:
        monkeypatch.setenv("EMBEDDING_ASSETS_ALERTS", hook.url)
        result = complete.definitions.resolve_job_def("upkeep_alerts_test").execute_in_process(
            instance=complete.instance
        )
        assert result.success
        (title,) = hook.titles
        assert "test" in title
        hook.status = 500
        refused = complete.definitions.resolve_job_def("upkeep_alerts_test").execute_in_process(
            instance=complete.instance, raise_on_error=False
        )
        assert "1 of 1 channels" in trouble(refused)
        assert "hunter2" not in trouble(refused)


def test_an_option_that_the_form_does_not_offer_is_refused_before_the_run(complete: Deployment) -> None:
    for name, config in (
        ("check", {"level": "deep"}),
        ("quarantine_restore", {"kind": "batch", "name": "x"}),
    ):
        with pytest.raises(dg.DagsterInvalidConfigError, match="not in enum"):
            launch(complete, f"upkeep_{name}", config, raise_on_error=True)


def test_ids_may_be_pasted_as_they_were_copied() -> None:
    assert pasted([" batch_1\tbatch_2,\n 'batch_3'; ", "batch_1", ""]) == ["batch_1", "batch_2", "batch_3"]
    assert pasted([]) == []


def test_a_dry_run_changes_nothing_and_says_what_would_be_done(complete: Deployment) -> None:
    delta = only_delta(complete)
    flip(complete.cell.store, file_of(delta, "chroma.sqlite3"))
    before = contents(complete.cell.store)
    for name, config in {
        "repair": {},
        "prune": {},
        "snapshots_delete": {"timestamped": True},
        "snapshots_rollback": {"version": current(complete)},
        "snapshots_rebuild": {},
        "deltas_delete": {"ids": [delta.id]},
        "deltas_clean": {"level": "quick"},
        "quarantine_purge": {},
    }.items():
        result = launch(complete, f"upkeep_{name}", config)
        assert result.success, trouble(result)
        # Prune says of this machine, too, what it would remove of dead processes.
        observed, *machine = observations(result)
        assert len(machine) == (name == "prune")
        said = plain(observed.metadata)
        assert (said["operation"], said["collection"]) == (name, complete.cell.spec.name)
        if name in ("prune", "quarantine_purge"):
            assert (said["done"], "nothing is to be done" in (observed.description or "")) == ([], True)
        else:
            assert said["done"]
            assert "a dry run: nothing was done" in (observed.description or "")
        assert contents(complete.cell.store) == before, name


def test_repair_heals_a_damaged_delta_and_a_damaged_snapshot_and_is_in_the_lineage(complete: Deployment) -> None:
    delta = only_delta(complete)
    flip(complete.cell.store, file_of(delta, "chroma.sqlite3"))
    version = damage_snapshot(complete)
    result = launch(complete, "upkeep_repair", {"dry_run": False})
    assert result.success, trouble(result)
    (observed,) = observations(result)
    assert observed.asset_key == dg.AssetKey("snapshots")
    assert observed.partition == complete.cell.spec.name
    done = {(row["action"], row["name"]) for row in plain(observed.metadata)["done"]}
    assert {("quarantined", delta.id), ("quarantined", version)} <= done
    assert moved_aside(complete).keys() == {delta.id, version}
    obey_until_quiet(complete)
    assert_sound(complete, 20)


def test_what_cannot_be_done_fails_the_run_and_says_why(complete: Deployment) -> None:
    before = contents(complete.cell.store)
    for name, config, word in (
        ("snapshots_rollback", {"version": "0000000009-x", "dry_run": False}, "0000000009-x: is not in"),
        ("deltas_delete", {"ids": ["nosuch"], "dry_run": False}, "nosuch: is not in"),
        ("deltas_verify", {"ids": ["nosuch"]}, "nosuch: is not in"),
        ("quarantine_purge", {"names": ["nosuch"]}, "nosuch: is not in"),
        ("deltas_clean", {"created_before": "yesterday"}, "is no ISO time"),
        ("repair", {"collections": ["receipts"]}, "receipts"),
    ):
        assert word in trouble(launch(complete, f"upkeep_{name}", config))
    assert contents(complete.cell.store) == before


def test_an_audit_of_what_is_sound_passes_for_each_cell_and_collection(complete: Deployment) -> None:
    before = contents(complete.cell.store)
    result = audit(complete, full_share=0)
    assert result.success, trouble(result)
    deltas = evaluations(complete, "deltas_are_whole", "deltas")
    assert {key: one.passed for key, one in deltas.items()} == {str(complete.cell_partition): True}
    snapshots = evaluations(complete, "snapshot_is_whole", "snapshots")
    assert {key: one.passed for key, one in snapshots.items()} == {complete.cell.spec.name: True}
    assert contents(complete.cell.store) == before


def on_another_day(deployment: Deployment) -> Deployment:
    """The same collection on the day before, with documents of its own that are in a delta and the snapshot."""
    day = date.fromisoformat(deployment.cell.day) - timedelta(days=1)
    other = replace(deployment.cell, day=str(day))
    other.write({f"early-{n}": f"early line {n}" for n in range(5)})
    other.deliver()
    other.compact()
    return replace(deployment, cell=other)


@pytest.mark.parametrize("repair", [False, True])
def test_an_audit_fails_for_exactly_the_damaged_cell_and_repairs_if_so_configured(
    complete: Deployment, repair: bool
) -> None:
    delta = only_delta(complete)
    other = on_another_day(complete)
    # Its manifest gone bad, the delta still belongs to its cell.
    flip(complete.cell.store, delta.key if repair else file_of(delta, "chroma.sqlite3"))
    before = contents(complete.cell.store)
    assert audit(complete, full_share=0, repair=repair).success
    found = evaluations(complete, "deltas_are_whole", "deltas")
    assert {key: one.passed for key, one in found.items()} == {
        str(complete.cell_partition): False,
        str(other.cell_partition): True,
    }
    bad = found[str(complete.cell_partition)]
    assert (bad.severity, delta.id in (bad.description or "")) == (dg.AssetCheckSeverity.ERROR, True)
    assert evaluations(complete, "snapshot_is_whole", "snapshots")[complete.cell.spec.name].passed
    if not repair:
        assert contents(complete.cell.store) == before
        return
    assert moved_aside(complete).keys() == {delta.id}
    obey_until_quiet(complete)
    assert_sound(complete, 25)
    assert audit(complete, full_share=0).success
    assert all(one.passed for one in evaluations(complete, "deltas_are_whole", "deltas").values())


def test_what_cannot_be_judged_is_a_warning_and_nothing_is_moved(
    complete: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_ROOM_BESIDE", 1 << 62)  # no disk has so much room
    before = contents(complete.cell.store)
    assert audit(complete, full_share=0).success
    for check, asset in (("deltas_are_whole", "deltas"), ("snapshot_is_whole", "snapshots")):
        (one,) = evaluations(complete, check, asset).values()
        assert (one.passed, one.severity) == (False, dg.AssetCheckSeverity.WARN)
        assert "its disk is full" in (one.description or "")
    assert contents(complete.cell.store) == before
    assert moved_aside(complete) == {}


def test_a_wrong_declaration_is_a_warning_that_names_what_to_type(complete: Deployment) -> None:
    # The store is as it was; the declaration is of another model.
    spec = complete.cell.spec.model_copy(update={"model": "another-model"})
    other = replace(complete, cell=replace(complete.cell, spec=spec))
    before = contents(complete.cell.store)
    assert audit(other, full_share=0).success
    (one,) = evaluations(other, "deltas_are_whole", "deltas").values()
    assert one.passed
    (one,) = evaluations(other, "snapshot_is_whole", "snapshots").values()
    assert (one.passed, one.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "Put `model: wordllama-256` back" in (one.description or "")
    assert contents(complete.cell.store) == before
    assert moved_aside(complete) == {}


def test_the_daily_audit_is_one_run_with_a_configuration_that_is_complete(complete: Deployment) -> None:
    definitions = complete.definitions
    schedule = definitions.resolve_schedule_def("daily_audit")
    with dg.build_schedule_context(
        instance=complete.instance, scheduled_execution_time=datetime(2026, 3, 4, 2, 45, tzinfo=timezone.utc)
    ) as context:
        tick = schedule.evaluate_tick(context)
    (request,) = tick.run_requests or ()
    result = definitions.resolve_job_def(schedule.job_name).execute_in_process(
        instance=complete.instance, run_config=request.run_config
    )
    assert result.success


def plant_old_delta(deployment: Deployment, folder: Path) -> str:
    """A plain ChromaDB folder of an older system, cut off while it was uploaded; its key prefix."""
    made = folder / "old"
    client = chromadb.PersistentClient(str(made), settings=chromadb.config.Settings(anonymized_telemetry=False))
    collection = client.create_collection("lines", embedding_function=None)
    collection.add(ids=["old-1"], embeddings=np.ones((1, deployment.cell.spec.dimensions)), documents=["old"])
    client.close()
    name, store = deployment.cell.spec.name, deployment.cell.store
    prefix = f"{name}/delta/lines/receipt_lines/3f2b8a52-9a0c-4ad5-8c57-6a7d8a1c9d10"
    for path in (path for path in made.rglob("*") if path.is_file()):
        data = path.read_bytes()
        cut = len(data) // 2 if path.name == "chroma.sqlite3" else len(data)
        store.replace(f"{prefix}/{path.relative_to(made).as_posix()}", data[:cut])
    return prefix


def delete_snapshots(deployment: Deployment) -> None:
    """By hand, as somebody would who has no command for it: the pointer and every version."""
    name, store = deployment.cell.spec.name, deployment.cell.store
    store.delete([item.key for item in store.walk(f"{name}/snapshot")])
    assert not store.exists(layout.pointer(name))


@pytest.mark.parametrize("old_delta", [True, False], ids=["old delta", "no old delta"])
@pytest.mark.parametrize("snapshot", ["deleted", "corrupted", "kept"])
def test_new_batches_over_damaged_old_data_end_in_a_snapshot_that_lacks_nothing(
    complete: Deployment, tmp_path: Path, old_delta: bool, snapshot: str
) -> None:
    cell = complete.cell
    expected: list[str] = []
    prefix = plant_old_delta(complete, tmp_path) if old_delta else ""
    if old_delta:
        expected.append(layout.legacy_name(prefix))
    if snapshot == "deleted":
        delete_snapshots(complete)
    elif snapshot == "corrupted":
        expected.append(damage_snapshot(complete))
    cell.write(receipt_lines(23))
    assert complete.run_cell("embedding_requests").success
    cell.wait()

    cells = complete.tick("finished_batches")
    assert [request.partition_key for request in cells.requests] == [complete.cell_partition]
    (result,) = complete.obey(CELL_JOB, cells)
    assert result.success, trouble(result)
    assert metadata(result, "deltas")["built_records"] == 3
    obey_until_quiet(complete)

    assert sorted(moved_aside(complete)) == sorted(expected)
    assert all(moved_aside(complete).values())
    if old_delta:
        assert [item.key for item in cell.store.walk(prefix)] == []
    assert_sound(complete, 23)
    with cell.read() as lines:
        assert lines.count() == 23
    assert audit(complete, full_share=0).success
    assert evaluations(complete, "snapshot_is_whole", "snapshots")[cell.spec.name].passed


def test_prune_lists_and_removes_what_killed_processes_left_here(
    complete: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    (copies := tmp_path / "cache" / "store" / complete.cell.spec.name / ".open").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    complete.store = StoreResource(url=complete.cell.store.url, cache=str(tmp_path / "cache"))
    left = []
    with running(HOLDS, str(temporary)) as (_, living):
        for place in (temporary, copies):
            with running(HOLDS, str(place)) as (_, folder):
                left.append(folder)
        for dry_run in (True, False):
            result = launch(complete, "upkeep_prune", {"dry_run": dry_run})
            assert result.success, trouble(result)
            here = next(one for one in observations(result) if one.partition is None)
            rows = [row for row in plain(here.metadata)["done"] if row["name"] in left]
            assert [(row["name"], row["bytes"]) for row in rows] == [(one, "1200") for one in left]
            assert [Path(one).exists() for one in left] == [dry_run] * 2
        assert Path(living).is_dir()


def test_a_prune_job_that_is_killed_leaves_nothing_that_the_next_one_does_not_remove(tmp_path: Path) -> None:
    for name in ("temporary", "store", "cache/x/lines/.open"):
        (tmp_path / name).mkdir(parents=True)

    def prune(dies_at: int) -> subprocess.CompletedProcess[str]:
        words = [f"file://{tmp_path}/store", str(tmp_path / "cache"), str(dies_at)]
        return subprocess.run(
            [sys.executable, "-m", "embedding_assets_tests.orchestration.killed_prune", *words],
            check=False,
            env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
            capture_output=True,
            text=True,
        )

    for place in (tmp_path / "temporary", tmp_path / "cache/x/lines/.open"):
        with running(HOLDS, str(place)):
            pass
    killed = prune(2)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert dead_folders(tmp_path / "temporary") != []  # its own folder is among them
    assert prune(0).stdout.endswith("ended well\n")
    for place in (tmp_path / "temporary", tmp_path / "cache/x/lines/.open"):
        assert [one.name for one in place.iterdir() if one.name.startswith("embedding-assets-")] == []
