"""Rounds of submit and poll against the service, well and badly behaved: nothing is lost, nothing is paid twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedding_assets.batches.landing import counting_landings, fetch_landing
from embedding_assets.batches.pending import pending_cells
from embedding_assets.catalog import Catalog
from embedding_assets.errors import CorruptedError
from embedding_assets.records import RecordBatch
from embedding_assets.sandbox.faults import BatchFault, LineFault
from embedding_assets.store import layout
from embedding_assets_tests.batches.conftest import TEXTS, World


def test_a_round_lands_every_record_with_the_vector_of_its_text(world: World) -> None:
    results = world.round()
    assert [row.state for row in results.batches] == ["landed"]
    (landing,) = counting_landings(world.store, world.spec.name, world.day)
    table = pq.read_table(fetch_landing(world.store, landing, world.folder))
    records = RecordBatch.from_arrow(table)
    expected = world.api.embed(TEXTS, world.spec.model, world.spec.dimensions)
    for i, record_id in enumerate(records.ids):
        n = int(record_id.removeprefix("D#"))
        assert records.documents[i] == TEXTS[n]
        assert records.metadatas[i] == {"n": n}
        np.testing.assert_allclose(records.embeddings[i], expected[n], atol=1e-6)
    books = world.balance()
    assert (books.requested, books.accepted, books.rejected, books.pending) == (8, 8, 0, 0)


def test_a_second_round_does_nothing(world: World) -> None:
    world.round()
    before = [item.key for item in world.store.walk("")]
    again = world.submit()
    assert not again.rows
    assert again.asked_before == 8
    assert [row.state for row in world.poll().batches] == ["unchanged"]
    assert [item.key for item in world.store.walk("")] == before


def test_only_new_and_changed_documents_are_asked(world: World) -> None:
    world.round()
    world.write(["oat milk", *TEXTS[1:], "pears"])
    sent = world.submit()
    assert sent.count("submitted") == 2
    assert sent.asked_before == 7


def test_a_text_that_changes_and_changes_back_is_asked_each_time(world: World) -> None:
    world.round()
    for texts in (["oat milk", *TEXTS[1:]], TEXTS, ["oat milk", *TEXTS[1:]]):
        world.write(texts)
        assert world.submit().count("submitted") == 1
        assert world.submit().count("submitted") == 0
    world.settle()
    world.poll()
    assert world.balance().pending == 0


@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
def test_partial_batches_keep_what_succeeded_and_ask_for_the_rest(world: World, outcome: str) -> None:
    world.sandbox.set_fault(BatchFault(outcome=outcome, finished=3))  # type: ignore[arg-type]
    world.round()
    books = world.balance()
    assert (books.accepted, books.again) == (3, 5)
    world.round()
    books = world.balance()
    assert (books.requested, books.accepted, books.pending) == (8, 8, 0)
    assert [row.attempt for row in books.batches] == [1, 2]


def test_what_fails_always_is_given_up_by_name(world: World) -> None:
    world.sandbox.set_fault(BatchFault(outcome="failed", message="no luck", times=None))
    for day in range(world.spec.attempts + 2):
        with world.later(days=day):
            world.round()
    books = world.balance()
    assert (books.accepted, books.rejected, books.pending) == (0, 8, 0)
    assert len(books.batches) == world.spec.attempts
    assert "given up after 3 attempts" in books.rejections[0].reason
    assert "no luck" in books.rejections[0].reason


def test_pauses_between_attempts_of_a_record_grow(world: World) -> None:
    world.sandbox.set_fault(BatchFault(outcome="failed", message="no luck", times=None))
    world.spec = world.spec.model_copy(update={"attempts": 9})
    hours = [0.0]
    for due in (0.0, 0.0, 1.0, 4.0, 12.0, 24.0):
        if due:
            with world.later(days=(hours[-1] + due - 0.1) / 24):
                assert not world.submit().rows
                assert world.balance().again == 8
                assert world.balance().paused_until
                (reason,) = world.balance().waiting
                assert "no luck" in reason
                assert "asked again after 20" in reason
        hours.append(hours[-1] + due + 0.1)
        with world.later(days=hours[-1] / 24):
            world.round()
    assert len(world.balance().batches) == 6


def test_a_look_sees_records_as_soon_as_their_pause_is_over(world: World) -> None:
    world.sandbox.set_fault(BatchFault(outcome="failed", message="no luck", times=2))
    world.round()
    world.round()
    catalog = Catalog(collections={world.spec.name: world.spec})
    position = pending_cells(world.api, world.store, catalog).position
    for minutes, due in ((10, 0), (55, 0), (62, 8)):
        with world.later(days=minutes / 1440):
            # No round of everything is due, and the cell is neither of today nor of yesterday.
            position = replace(position, full_at=layout.now().timestamp(), old_at=layout.now().timestamp())
            work = pending_cells(world.api, world.store, catalog, position=position)
        assert sum(cell.again for cell in work.cells) == due
        position = work.position


def test_the_token_limit_means_later_and_uses_up_no_attempt(world: World) -> None:
    world.sandbox.set_fault(BatchFault(outcome="failed", code="token_limit_exceeded", times=5))
    for _ in range(5):
        world.round()
        assert world.balance().again == 8
    world.round()
    assert world.balance().accepted == 8


def test_no_more_is_submitted_while_the_token_limit_is_met(world: World) -> None:
    world.sandbox.set_fault(BatchFault(status="scheduling", seconds=30, times=1))
    world.sandbox.set_fault(BatchFault(outcome="failed", code="token_limit_exceeded", times=1))
    spec = {"batch_requests": 4}
    world.submit(**spec)
    world.write([*TEXTS, "pears"])
    while not any(b.token_limited for b in world.batches()):
        pass
    world.poll()
    held = world.submit(**spec)
    assert {row.action for row in held.rows} <= {"deferred"}
    assert held.count("deferred") == 5
    assert "limit of enqueued tokens" in held.note


DAMAGE = ["lost", "broken_json", "wrong_dimension", "nan", "zero_vector", "unknown_custom_id", "not_200"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_lines_are_never_trusted_and_their_records_asked_again(world: World, damage: str) -> None:
    world.sandbox.set_fault(BatchFault(lines=(LineFault(damage=damage, count=2),)))  # type: ignore[arg-type]
    with world.later(days=3):  # a line that is lost is waited for until then
        world.round()
        books = world.balance()
        assert (books.accepted, books.rejected + books.again) == (6, 2)
        world.round()
        books = world.balance()
        assert books.accepted + books.rejected == 8
        assert books.pending == 0


@pytest.mark.parametrize("damage", ["repeated_custom_id", "body_as_string"])
def test_odd_lines_do_no_harm(world: World, damage: str) -> None:
    world.sandbox.set_fault(BatchFault(lines=(LineFault(damage=damage, count=3),)))  # type: ignore[arg-type]
    results = world.round()
    assert world.balance().accepted == 8
    assert results.landings[0].repeated == (3 if damage == "repeated_custom_id" else 0)


@pytest.mark.parametrize("which", ["empty", "missing", "gone"])
@pytest.mark.parametrize("file", ["output_file", "error_file"])
def test_files_that_are_not_as_they_should_be(world: World, file: str, which: str) -> None:
    world.sandbox.set_fault(BatchFault(outcome="expired", finished=5, **{file: which}))  # type: ignore[arg-type]
    world.round()
    if file == "output_file" or which == "gone":  # the API says that it has five answers
        assert world.balance().in_flight == 8
        assert not world.submit().rows
    with world.later(days=3):
        world.poll()
        assert world.balance().accepted == (5 if file == "error_file" else 0)
        world.round()
        assert world.balance().accepted == 8


def test_an_unknown_status_is_not_final_and_is_said(world: World) -> None:
    world.sandbox.set_fault(BatchFault(status="scheduling", seconds=30, bare_id=True))
    world.submit()
    rows = world.poll().batches
    while rows[0].status == "validating":
        rows = world.poll().batches
    assert rows[0].state == "pending"
    assert "'scheduling' is unknown" in rows[0].reason
    assert world.balance().in_flight == 8
    assert not world.submit().rows


def test_ids_without_their_prefix_are_ids(world: World) -> None:
    world.sandbox.set_fault(BatchFault(bare_id=True))
    assert not world.round().batches[0].batch_id.startswith("batch_")
    assert world.balance().accepted == 8


def test_skipped_batches_are_not_polled_and_forced_ones_are(world: World) -> None:
    landed = world.round().batches[0]
    assert world.poll(skip={landed.batch_id}).count("skipped") == 1
    assert world.poll(skip={landed.batch_id}, only={landed.batch_id}).count("unchanged") == 1


def test_a_damaged_landing_is_healed_from_the_api(world: World) -> None:
    landing = world.round().landings[0]
    key = f"{landing.folder}/{landing.records_file.name}"
    world.store.replace(key, b"damage")
    with pytest.raises(CorruptedError, match="not what was written"):
        fetch_landing(world.store, landing, world.folder)
    healed = world.poll().batches[0]
    assert healed.state == "landed"
    assert healed.landing is not None
    assert healed.landing.digest == landing.digest
    fetch_landing(world.store, healed.landing, world.folder)


def _forget(world: World, landing_batch: str) -> None:
    batch = world.api.retrieve(landing_batch)
    assert batch.output_file_id is not None
    world.api._client.files.delete(batch.output_file_id)


def test_what_the_api_no_longer_has_is_taken_from_the_landing(world: World) -> None:
    landing = world.round().landings[0]
    _forget(world, landing.batch_id)
    kept = world.poll().batches[0]
    assert (kept.state, kept.landing) == ("kept", landing)
    assert world.balance().accepted == 8


def test_what_nobody_has_any_more_is_asked_again(world: World) -> None:
    landing = world.round().landings[0]
    _forget(world, landing.batch_id)
    for file in landing.files:
        world.store.delete([f"{landing.folder}/{file.name}"])
    with world.later(days=3):  # until then it is waited for
        assert world.poll().batches[0].state == "lost"
        assert world.poll().batches[0].state == "lost"
        assert world.balance().again == 8
        world.round()
    assert world.balance().accepted == 8
