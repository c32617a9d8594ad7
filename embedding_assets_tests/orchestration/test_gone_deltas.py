"""A delta that is gone, as Dagster shows it: the check, the audit, the run that refuses, the job that rebuilds."""

from __future__ import annotations

import dagster as dg
import pytest

from embedding_assets.pipeline.compacting import rebuild_snapshot
from embedding_assets.store import layout
from embedding_assets.vectorstore.commit import head
from embedding_assets_tests.moved_clock import later
from embedding_assets_tests.orchestration.deployment import Deployment, checks, trouble
from embedding_assets_tests.orchestration.test_upkeep import (
    assert_sound,
    audit,
    damage_snapshot,
    evaluations,
    launch,
    obey_until_quiet,
    observations,
    only_delta,
)

pytestmark = [pytest.mark.dagster, pytest.mark.service]


def lose(deployment: Deployment, *, landing: bool) -> str:
    """Delete the only delta, and with it the landings of its batches; its id."""
    delta, cell = only_delta(deployment), deployment.cell
    gone = [delta.folder]
    if landing:
        gone += [layout.results(cell.spec.name, cell.day, entry.batch_id) for entry in delta.batches]
    for folder in gone:
        cell.store.delete([item.key for item in cell.store.walk(folder)])
    return delta.id


def test_the_check_and_the_audit_warn_of_a_delta_that_is_gone_and_the_audit_makes_it_again(
    complete: Deployment,
) -> None:
    gone = lose(complete, landing=False)
    name = complete.cell.spec.name
    ran = complete.run_compaction()
    assert ran.success, trouble(ran)
    check = checks(ran)["snapshot_is_whole"]
    assert (check.passed, check.severity, gone in str(check.description)) == (False, dg.AssetCheckSeverity.WARN, True)
    assert audit(complete).success
    found = evaluations(complete, "snapshot_is_whole", "snapshots")[name]
    assert (found.passed, found.severity, gone in str(found.description)) == (False, dg.AssetCheckSeverity.WARN, True)
    assert audit(complete).success
    assert evaluations(complete, "snapshot_is_whole", "snapshots")[name].passed
    assert only_delta(complete).count == 20


def test_a_run_that_would_make_less_than_there_was_fails_by_name_until_the_cell_has_run(complete: Deployment) -> None:
    gone = lose(complete, landing=True)
    damage_snapshot(complete)
    refused = complete.run_compaction()
    assert not refused.success
    assert "it would hold less than the one before" in trouble(refused)
    assert gone in trouble(refused)
    with later(hours=1):  # after a failure there is a pause
        obey_until_quiet(complete)
    assert_sound(complete, 20)


def test_the_job_that_rebuilds_says_what_the_command_says_and_goes_on_only_if_it_is_forced(
    complete: Deployment,
) -> None:
    gone, cell = lose(complete, landing=True), complete.cell
    planned = rebuild_snapshot(cell.store, cell.spec, run_id="test", scratch=cell.folder)
    (told,) = observations(launch(complete, "upkeep_snapshots_rebuild", {}))
    assert str(planned.rows[0]["reason"]) in str(told.metadata)
    assert gone in str(told.metadata)
    damage_snapshot(complete)
    before = head(cell.store, cell.spec.name)
    refused = launch(complete, "upkeep_snapshots_rebuild", {"dry_run": False})
    assert not refused.success
    assert gone in trouble(refused)
    assert head(cell.store, cell.spec.name) == before
    assert launch(complete, "upkeep_snapshots_rebuild", {"dry_run": False, "force": True}).success
