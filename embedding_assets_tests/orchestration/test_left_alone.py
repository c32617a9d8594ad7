"""What the configuration no longer names is left alone and said; one collection in trouble holds up no other."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest

from embedding_assets.catalog import Catalog
from embedding_assets.errors import CorruptedError, StoreUnavailableError
from embedding_assets.orchestration.sensors import compaction
from embedding_assets.pipeline.pending import CompactionDue, compaction_due
from embedding_assets.sandbox import BatchFault, LineFault
from embedding_assets.store import layout
from embedding_assets_tests.cells import own_name
from embedding_assets_tests.moved_clock import later
from embedding_assets_tests.orchestration.deployment import Deployment, checks, metadata, plain

pytestmark = [pytest.mark.dagster, pytest.mark.service]


@dataclass
class Redeclared(Deployment):
    """The deployment after somebody has edited the file."""

    declared: Catalog = field(default_factory=Catalog)

    @property
    def catalog(self) -> Catalog:
        return self.declared


def redeclared(deployment: Deployment, **declared: Any) -> Redeclared:
    same = {one.name: getattr(deployment, one.name) for one in fields(Deployment)}
    return Redeclared(**same, declared=Catalog(**declared))


def beside(deployment: Deployment) -> dict[str, Any]:
    """The same declaration under another name."""
    name = own_name("other")
    return {name: deployment.cell.spec.model_copy(update={"name": name})}


def finished(deployment: Deployment) -> Deployment:
    deployment.cell.submit()
    deployment.cell.wait()
    return deployment


def test_a_start_that_passed_an_open_day_leaves_that_day_alone_and_says_so(fresh: Deployment) -> None:
    finished(fresh)
    cell, name = fresh.cell, fresh.cell.spec.name
    later = redeclared(fresh, start=date.fromisoformat(cell.day) + timedelta(days=1), collections={name: cell.spec})
    tick = later.tick("finished_batches")
    assert not tick.requests
    assert f"{name}: {cell.day} with work is left alone" in (tick.reason or "")
    back = redeclared(fresh, start=date.fromisoformat(cell.day), collections={name: cell.spec})
    assert [one.partition_key for one in back.tick("finished_batches").requests] == [fresh.cell_partition]


@pytest.mark.parametrize("sensor", ["finished_batches", "lacking_snapshots"])
def test_a_collection_that_is_renamed_or_added_while_batches_are_open(fresh: Deployment, sensor: str) -> None:
    fresh.cell.submit()
    cursor = fresh.tick(sensor).cursor
    fresh.cell.wait()
    renamed = redeclared(fresh, collections=beside(fresh))
    assert not renamed.tick_once(sensor, cursor).requests
    added = redeclared(fresh, collections={**beside(fresh), fresh.cell.spec.name: fresh.cell.spec})
    asked = {one.partition_key for one in added.tick(sensor).requests}
    assert asked == ({fresh.cell_partition} if sensor == "finished_batches" else set())


def test_a_tick_names_the_batches_of_a_collection_that_is_not_declared(fresh: Deployment) -> None:
    finished(fresh)
    tick = redeclared(fresh, collections=beside(fresh)).tick_once("finished_batches", None)
    assert not tick.requests
    name = fresh.cell.spec.name
    assert f"2 batches of {name}, which is not declared, are left alone" in (tick.reason or "")


def test_the_daily_requests_wait_for_a_start_that_is_to_come(fresh: Deployment) -> None:
    tomorrow = layout.now().date() + timedelta(days=1)
    later = redeclared(fresh, start=tomorrow, collections={fresh.cell.spec.name: fresh.cell.spec})
    schedule = later.definitions.resolve_schedule_def("daily_requests")
    tick = schedule.evaluate_tick(dg.build_schedule_context(instance=fresh.instance, scheduled_execution_time=None))
    assert not tick.run_requests
    assert f"`start` is {tomorrow}" in (tick.skip_message or "")


@pytest.mark.parametrize("trouble", [CorruptedError, StoreUnavailableError])
def test_one_collection_in_trouble_keeps_no_other_from_compaction(
    fresh: Deployment, monkeypatch: pytest.MonkeyPatch, trouble: type[CorruptedError | StoreUnavailableError]
) -> None:
    fresh.cell.deliver()
    other = beside(fresh)
    two = redeclared(fresh, collections={**other, fresh.cell.spec.name: fresh.cell.spec})

    def due(store: Any, spec: Any) -> CompactionDue | None:
        if spec.name in other:
            raise trouble("the log", "cannot be read", "Look at it.")
        return compaction_due(store, spec)

    monkeypatch.setattr(compaction, "compaction_due", due)
    assert [one.partition_key for one in two.tick("lacking_snapshots").requests] == [fresh.cell.spec.name]


def test_what_landed_says_the_same_as_its_check(fresh: Deployment) -> None:
    fault = LineFault("zero_vector", custom_ids=("line-00013",))
    fresh.cell.sandbox.set_fault(BatchFault(times=None, lines=(fault,), metadata={"collection": fresh.cell.spec.name}))
    for turn in range(fresh.cell.spec.attempts):
        with later(hours=2 * turn):
            fresh.run_cell("embedding_requests")
            fresh.cell.wait()
            result = fresh.run_cell("batch_results", "deltas")
    result = fresh.run_cell("batch_results")  # a run that lands nothing counts what landed before
    said, checked = metadata(result, "batch_results"), plain(checks(result)["results_are_complete"].metadata)
    for name in ("requested", "accepted", "rejected"):
        assert said[f"{name}_records"] == checked[name]
    assert (said["rejected_records"], said["rejected_share"]) == (1, 1 / 20)
