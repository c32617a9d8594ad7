"""The steps of a cell in the order a user walks them, against the real service and a store in a folder."""

from __future__ import annotations

import pytest

from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.pipeline.proofs import prove_deltas
from embedding_assets.pipeline.status import collection_status
from embedding_assets.sandbox import BatchFault, LineFault, Sandbox
from embedding_assets_tests.cells import Cell, contents, receipt_lines, wait_for_another_second
from embedding_assets_tests.moved_clock import later

pytestmark = pytest.mark.service


def test_documents_become_batches_results_deltas_and_a_snapshot_that_is_searched(cell: Cell) -> None:
    sent = cell.submit()
    assert (sent.count("submitted"), len(sent.rows)) == (20, 2)
    cell.wait()
    landed = cell.land()
    assert (landed.count("landed"), sum(landing.accepted for landing in landed.landings)) == (2, 20)
    built = cell.build()
    assert [manifest.count for manifest in built.built] == [20]
    assert {entry.batch_id for entry in built.built[0].batches} == set(cell.batch_ids())
    snapshot = cell.compact().manifest

    texts = receipt_lines(20)
    with cell.read() as lines:
        assert {record.id: record.document for record in lines.get()} == texts
        for record_id in ("line-00003", "line-00016"):
            found = lines.query(texts[record_id], n=3)[0]
            assert (found.id, found.metadata) == (
                record_id,
                {"at": f"of {record_id}", "letters": len(texts[record_id])},
            )
            assert found.batch_id in cell.batch_ids()
            assert found.delta_id == built.built[0].id
    status = collection_status(cell.store, cell.spec)
    assert (status.requested, status.accepted, status.rejected, status.pending) == (20, 20, 0, 0)
    assert (status.deltas, status.uncompacted, status.records, status.version) == (1, 0, 20, snapshot.id)


def test_a_second_time_changes_no_object_in_the_store(delivered: Cell) -> None:
    before = contents(delivered.store)
    assert delivered.submit().rows == ()
    assert delivered.land().count("skipped") == 2
    assert delivered.build().built == ()
    assert delivered.compact().merged is None
    assert delivered.to_run() == []
    delivered.proof()
    prove_deltas(delivered.store, delivered.spec, delivered.day)
    assert contents(delivered.store) == before


def test_nothing_to_do_is_no_error_at_any_step(sandbox: Sandbox, cell: Cell) -> None:
    cell.write({})
    assert cell.submit().rows == ()
    assert cell.land().batches == ()
    assert cell.build().built == ()
    assert cell.proof().manifest is None
    assert cell.books().requested == 0


def test_many_small_batches_become_few_deltas(cell: Cell) -> None:
    cell.write(receipt_lines(240))
    small = Cell(
        cell.sandbox,
        cell.api,
        cell.store,
        cell.spec.model_copy(update={"batch_requests": 4, "delta_records": 100}),
        cell.folder,
    )
    assert len(small.submit().rows) == 60
    small.wait()
    assert small.land().count("landed") == 60
    built = small.build().built
    assert [manifest.count for manifest in built] == [100, 100, 40]
    batches = [entry.batch_id for manifest in built for entry in manifest.batches]
    assert len(batches) == 60
    assert set(batches) == set(small.batch_ids())
    assert small.compact().manifest.count == 240
    proof = small.proof()
    assert (proof.problems, proof.lost, proof.accepted) == ((), (), 240)


@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
def test_what_a_partial_batch_left_is_asked_again_in_the_same_cell_until_all_is_accepted(
    cell: Cell, outcome: str
) -> None:
    cell.sandbox.set_fault(
        BatchFault(outcome=outcome, finished=3, times=2, metadata={"collection": cell.spec.name})  # type: ignore[arg-type]
    )
    cell.deliver()
    assert (cell.books().accepted, cell.books().again) == (6, 14)
    (found,) = cell.to_run()
    assert (found.collection, found.day, found.ask) == (cell.spec.name, cell.day, True)
    assert found.reasons == ("14 records are to be asked again",)
    rounds = 1
    while cell.to_run():
        assert rounds < 5
        cell.deliver()
        rounds += 1
    books = cell.books()
    assert (books.requested, books.accepted, books.rejected, books.pending) == (20, 20, 0, 0)
    assert {row.attempt for row in books.batches} == {1, 2}
    assert cell.compact().manifest.count == 20
    assert cell.proof().accepted == 20


def test_a_record_that_the_api_always_refuses_is_rejected_by_name_and_does_not_keep_the_others(cell: Cell) -> None:
    cell.sandbox.set_fault(
        BatchFault(
            times=None, lines=(LineFault("nan", custom_ids=("line-00007",)),), metadata={"collection": cell.spec.name}
        )
    )
    for turn in range(cell.spec.attempts + 1):
        with later(hours=2 * turn):
            cell.deliver()
    books = cell.books()
    assert (books.accepted, books.rejected, books.pending) == (19, 1, 0)
    assert [rejected.name for rejected in books.rejections] == ["line-00007"]
    assert cell.to_run() == []
    assert cell.compact().manifest.count == 19
    assert cell.proof().conserved


def test_forced_batches_are_polled_whatever_they_have_and_no_others(delivered: Cell) -> None:
    before = contents(delivered.store)
    first, second = delivered.batch_ids()
    rows = {row.batch_id: row.state for row in delivered.land(second).batches}
    assert rows == {first: "skipped", second: "unchanged"}
    assert contents(delivered.store) == before


def test_forced_batches_that_the_cell_does_not_have_are_named(delivered: Cell) -> None:
    before = contents(delivered.store)
    with pytest.raises(EmbeddingAssetsError, match=r"has no batches batch_a, batch_b.*partition of the day") as refused:
        delivered.land("batch_b", delivered.batch_ids()[0], "batch_a")
    assert delivered.batch_ids()[0] not in str(refused.value)
    assert contents(delivered.store) == before


def test_a_changed_text_wins_in_the_snapshot(delivered: Cell) -> None:
    wait_for_another_second()
    delivered.write({**receipt_lines(20), "line-00004": "oat milk 4 4.44", "line-00020": "pears 20 2.20"})
    assert delivered.submit().count("submitted") == 2
    delivered.deliver()
    assert delivered.compact().manifest.count == 21
    with delivered.read() as lines:
        assert {record.id: record.document for record in lines.get()} == {
            **receipt_lines(20),
            "line-00004": "oat milk 4 4.44",
            "line-00020": "pears 20 2.20",
        }
        assert lines.query("oat milk 4 4.44", n=1)[0].id == "line-00004"
    proof = delivered.proof()
    assert (proof.problems, proof.lost, proof.accepted) == ((), (), 21)


def test_an_older_batch_that_lands_late_never_overwrites_a_newer_one(cell: Cell) -> None:
    cell.submit()
    old = set(cell.batch_ids())
    wait_for_another_second()
    cell.write({**receipt_lines(20), "line-00004": "oat milk 4 4.44"})
    cell.submit()
    (newer,) = set(cell.batch_ids()) - old
    cell.wait()
    cell.land(newer)
    cell.build()
    assert cell.compact().manifest.count == 1
    cell.deliver()
    assert cell.compact().manifest.count == 20
    with cell.read() as lines:
        (record,) = lines.get(["line-00004"])
        assert (record.document, record.batch_id) == ("oat milk 4 4.44", newer)
    assert cell.proof().lost == ()
