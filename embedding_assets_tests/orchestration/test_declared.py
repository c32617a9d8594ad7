"""A wrong line in the declaration, as a person in the UI meets it: one step refuses, the others go on, and it heals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from embedding_assets.orchestration.jobs import CELL_JOB, COMPACTION_JOB
from embedding_assets_tests.cells import receipt_lines
from embedding_assets_tests.orchestration.deployment import Deployment, checks, metadata, trouble
from embedding_assets_tests.pipeline.declarations import as_earlier_versions_did

pytestmark = [pytest.mark.dagster, pytest.mark.service]


def redeclared(deployment: Deployment, **changed: Any) -> Deployment:
    """The same deployment under another declaration."""
    spec = deployment.cell.spec.model_copy(update=changed)
    return replace(deployment, cell=replace(deployment.cell, spec=spec), results=[])


def brought_up(fresh: Deployment) -> Deployment:
    """Twenty records in a snapshot; thirty documents."""
    fresh.cell.deliver()
    fresh.cell.compact()
    fresh.cell.write(receipt_lines(30))
    return fresh


def obey_the_sensors(deployment: Deployment) -> None:
    """Run what they ask for until they ask for nothing."""
    for _ in range(6):
        ran = deployment.obey(CELL_JOB, deployment.tick("finished_batches"))
        deployment.cell.wait()
        ran += deployment.obey(COMPACTION_JOB, deployment.tick("lacking_snapshots"))
        assert all(run.success for run in ran)
        if not ran:
            return
    raise AssertionError("the sensors never end")


@pytest.mark.parametrize("wrong", [{"dimensions": 128}, {"model": "another-model"}, {"distance": "l2"}])
def test_the_step_that_pays_refuses_and_the_others_go_on(fresh: Deployment, wrong: dict[str, Any]) -> None:
    right = brought_up(fresh)
    right.cell.submit()
    right.cell.wait()
    other = redeclared(right, **wrong)
    said = trouble(other.run_cell("embedding_requests"))
    assert "declared as" in said
    assert "back in its declaration" in said
    ran = other.run_cell("batch_results", "deltas")
    assert ran.success
    assert all(check.passed for check in checks(ran).values())
    ran = other.run_compaction()
    assert ran.success
    assert [name for name, check in checks(ran).items() if not check.passed] == ["model_is_as_declared"]
    assert "Put `" in (checks(ran)["model_is_as_declared"].description or "")
    ran = right.run_compaction()
    assert all(check.passed for check in checks(ran).values())
    with right.cell.read() as lines:
        assert lines.count() == 30


def test_what_an_earlier_version_paid_for_is_named_and_asked_again_once(fresh: Deployment) -> None:
    right = brought_up(fresh)
    aside = as_earlier_versions_did(redeclared(right, dimensions=128).cell)
    looked = right.run_cell("batch_results", "deltas")
    assert looked.success
    assert aside.id in str(metadata(looked, "deltas")["set_aside"])
    landed = metadata(looked, "batch_results")
    assert (landed["accepted_records"], landed["set_aside_batches"]) == (20, 1)
    assert sum("set aside" in row["reason"] for row in landed["batches"]) == 1
    found = checks(looked)
    assert (found["deltas_are_whole"].passed, found["results_are_complete"].passed) == (True, True)
    assert "set aside" in (found["deltas_are_whole"].description or "")
    assert found["results_are_complete"].metadata["to_be_asked_again"].value == 10
    obey_the_sensors(right)
    compacted = right.run_compaction()
    assert aside.id in str(metadata(compacted, "snapshots")["set_aside"])
    assert all(check.passed for check in checks(compacted).values())
    assert right.cell.books().accepted == 30
    with right.cell.read() as lines:
        assert lines.count() == 30
