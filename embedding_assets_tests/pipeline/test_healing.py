"""Runs that ended too early and landings that were damaged: found, named, and set right by the next run."""

from __future__ import annotations

import pytest

from embedding_assets.batches.landing import Landing, counting_landings
from embedding_assets.store import layout
from embedding_assets_tests.cells import Cell, contents

pytestmark = pytest.mark.service


def landings(cell: Cell) -> list[Landing]:
    return counting_landings(cell.store, cell.spec.name, cell.day)


def test_a_crash_between_landing_and_delta_is_found_and_made_good(landed: Cell) -> None:
    (found,) = landed.to_run()
    assert found.reasons == ("2 landed batches are in no delta",)
    assert not found.ask
    assert [manifest.count for manifest in landed.build().built] == [20]
    assert landed.to_run() == []


def test_a_crash_between_submission_and_landing_is_found_and_made_good(cell: Cell) -> None:
    cell.submit()
    cell.wait()
    (found,) = cell.to_run()
    assert found.reasons == ("2 batches have finished",)
    cell.deliver()
    assert cell.to_run() == []


def test_a_crash_before_the_batch_was_recorded_pays_for_nothing_twice(cell: Cell) -> None:
    cell.submit()
    paid = cell.batch_ids()
    for folder in (layout.requests(cell.spec.name, cell.day), layout.asked(cell.spec.name, cell.day)):
        cell.store.delete([item.key for item in cell.store.walk(folder) if item.key.endswith(layout.BATCH)])
    cell.wait()
    (found,) = cell.to_run()
    assert found.ask
    assert "2 requests are not sent" in found.reasons
    again = cell.submit()
    assert [row.action for row in again.rows] == ["adopted", "adopted"]
    assert cell.batch_ids() == paid


DAMAGE = [
    ("records.parquet", "overwritten"),
    ("accepted.parquet", "overwritten"),
    ("rejected.parquet", "deleted"),
    ("manifest.json", "overwritten"),
]


@pytest.mark.parametrize(("part", "how"), DAMAGE)
def test_a_landing_damaged_before_its_delta_is_polled_again_and_healed(landed: Cell, part: str, how: str) -> None:
    broken, whole = landings(landed)
    damage(landed, broken, part, how)
    if part == "records.parquet":
        done = landed.build()
        assert list(done.damaged) == [broken.batch_id]
        assert [[entry.batch_id for entry in manifest.batches] for manifest in done.built] == [[whole.batch_id]]
    assert [found.day for found in landed.to_run()] == [landed.day]
    states = {row.batch_id: row.state for row in landed.land().batches}
    assert states[broken.batch_id] == "landed"
    assert landed.build().damaged == {}
    assert landed.books().accepted == 20
    assert landed.to_run() == []
    before = contents(landed.store)
    landed.deliver()
    assert contents(landed.store) == before


def test_a_landing_damaged_after_its_delta_is_named_and_healed_by_a_forced_poll(delivered: Cell) -> None:
    broken, whole = landings(delivered)
    damage(delivered, broken, "accepted.parquet", "overwritten")
    proof = delivered.proof()
    assert (proof.damaged_landings, proof.problems, proof.lost) == ((broken.batch_id,), (), ())
    states = {row.batch_id: row.state for row in delivered.land(broken.batch_id).batches}
    assert states == {broken.batch_id: "landed", whole.batch_id: "skipped"}
    delivered.build()
    assert delivered.compact().manifest.count == 20
    proof = delivered.proof()
    assert (proof.damaged_landings, proof.problems, proof.lost, proof.accepted) == ((), (), (), 20)
    assert delivered.books().pending == 0


def damage(cell: Cell, landing: Landing, part: str, how: str) -> None:
    key = f"{landing.folder}/{part}"
    if how == "overwritten":
        cell.store.replace(key, b"something else")
    else:
        cell.store.delete([key])
