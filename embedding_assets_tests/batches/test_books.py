"""The books balance whatever happens, and say which cell has what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedding_assets.batches.balance import balance
from embedding_assets.batches.identity import identity_of
from embedding_assets.batches.pending import pending_cells
from embedding_assets.batches.plan import documents_for, plan_submission
from embedding_assets.batches.refused_documents import read_refused
from embedding_assets.batches.requests import read_history, read_requests
from embedding_assets.catalog import Catalog
from embedding_assets.errors import DocumentError
from embedding_assets.sandbox.faults import BatchFault, LineFault
from embedding_assets.store import layout
from embedding_assets_tests.batches.conftest import DAY, TEXTS, World
from embedding_assets_tests.forging import forge

FAULTS = [
    BatchFault(),
    BatchFault(outcome="expired", finished=1),
    BatchFault(outcome="cancelled"),
    BatchFault(outcome="failed"),
    BatchFault(outcome="failed", code="token_limit_exceeded"),
    BatchFault(finished=2),
    BatchFault(output_file="gone"),
    BatchFault(outcome="expired", error_file="empty"),
    BatchFault(lines=(LineFault("lost", 2), LineFault("repeated_custom_id", 1))),
    BatchFault(lines=(LineFault("not_200", 1), LineFault("unknown_custom_id", 1))),
]
STEPS = st.sampled_from(["submit", "settle", "poll", "change", "grow", "shrink"])


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(FAULTS), max_size=6), st.lists(STEPS, max_size=10), st.integers(2, 9))
def test_conservation_whatever_happens_in_whatever_order(
    make_world: Callable[..., World], service: object, faults: list[BatchFault], steps: list[str], most: int
) -> None:
    world = make_world(service, attempts=2)
    texts, written = list(TEXTS), list(TEXTS)
    world.write(texts)
    world.sandbox.clear_faults()
    for fault in faults:
        world.sandbox.set_fault(fault)
    asked: set[str] = set()
    limited = any(fault.code == "token_limit_exceeded" for fault in faults)
    for i, step in enumerate(steps):
        if step == "change":
            texts[i % len(texts)] += f" {i}"
        elif step == "grow":
            texts.append(f"another {i}")
        elif step == "shrink":
            texts = texts[:-1] or ["one left"]
        elif step == "submit":
            world.write(texts)
            written = list(texts)
            world.submit(batch_requests=most)
            asked.update(texts)
        else:
            getattr(world, step)()
        # Fewer only where the limit of enqueued tokens put some off: those are asked for by a later run.
        requested = world.balance().requested
        assert requested <= len(asked)
        assert requested == len(asked) or limited
    world.sandbox.clear_faults()
    for days in (3, 6, 9):  # what failed when it was polled waits before it is asked again
        with world.later(days=days):
            world.submit(batch_requests=most)
            world.settle()
            world.poll()
    books = world.balance()
    assert books.pending == 0
    assert books.requested >= len(set(written))
    assert books.accepted + books.rejected == books.requested
    assert set(world.paid().values()) <= {1}
    catalog = Catalog(collections={world.spec.name: world.spec})
    assert not pending_cells(world.api, world.store, catalog).cells


def test_a_rejected_record_that_is_accepted_later_counts_once(world: World) -> None:
    world.sandbox.set_fault(BatchFault(lines=(LineFault("nan", 3),)))
    world.round()
    world.round()
    books = world.balance()
    assert (books.requested, books.accepted, books.rejected) == (8, 8, 0)
    assert [(row.requested, row.accepted) for row in books.batches] == [(8, 5), (3, 3)]


def test_refused_documents_are_in_the_books_until_they_are_right(world: World) -> None:
    world.write([*TEXTS, ""])
    world.round()
    books = world.balance()
    assert (books.requested, books.accepted, books.rejected, books.refused) == (9, 8, 1, 1)
    assert books.rejections[0].reason == "the text is empty"
    world.submit()
    world.write([*TEXTS, "now it is one"])
    world.round()
    assert read_refused(world.store, world.spec.name, DAY) == []
    assert world.balance().accepted == world.balance().requested == 9


def test_a_text_too_large_for_any_batch_is_refused_by_name(world: World) -> None:
    world.write([*TEXTS, "word " * 25_000])
    assert world.submit(batch_bytes=100_000).count("submitted") == 8
    (refused,) = world.balance().rejections
    assert "100000" in refused.reason
    assert refused.name.endswith("#D#8")


def test_past_days_ask_for_nothing_new_but_finish_what_was_begun(world: World) -> None:
    world.day = "2026-02-03"
    assert world.submit().rows == ()
    daily = world.spec.model_copy(update={"documents": str(world.folder / "{day}.jsonl")})
    assert documents_for(daily, world.day, DAY)[0] is None
    (world.folder / "documents.jsonl").rename(world.folder / f"{world.day}.jsonl")
    world.spec = daily
    world.sandbox.set_fault(BatchFault(outcome="expired", finished=2))
    world.round()
    assert world.balance().again == 6
    (world.folder / f"{world.day}.jsonl").unlink()
    world.round()
    assert world.balance().accepted == 8
    assert {request.day for request in read_history(world.store, world.spec.name)} == {world.day}


def test_documents_that_cannot_be_read_do_not_hold_up_the_rest(world: World) -> None:
    world.sandbox.set_fault(BatchFault(outcome="expired", finished=2))
    world.round()
    (world.folder / "documents.jsonl").unlink()
    with pytest.raises(DocumentError, match="is not there"):
        world.submit()
    world.settle()
    world.poll()
    assert world.balance().accepted == 8


def test_an_old_text_is_not_asked_again_over_a_newer_one(world: World) -> None:
    world.sandbox.set_fault(BatchFault(outcome="expired", finished=0))
    world.round()
    world.write(["oat milk", *TEXTS[1:]])
    world.round()
    books = world.balance()
    assert [row.requested for row in books.batches] == [8, 7, 1]
    assert (books.accepted, books.reasons) == (8, {"superseded": 1})


def test_planning_writes_nothing_but_the_identity_of_a_new_store(world: World) -> None:
    world.write([*TEXTS, ""])
    documents, note = documents_for(world.spec, DAY, DAY)
    plan = plan_submission(world.store, world.spec, DAY, documents, documents_note=note)
    assert [p.count for p in plan.new] == [8]
    store_id = identity_of(world.store)
    assert {item.key for item in world.store.walk("")} == {layout.IDENTITY, layout.identity_copies(store_id)}
    assert world.batches() == []


def test_a_damaged_record_of_what_was_asked_is_said(world: World) -> None:
    world.round()
    (asked,) = read_requests(world.store, world.spec.name, world.day)
    world.store.replace(f"{asked.request.folder}/{asked.request.ids.name}", b"damage")
    books = balance(world.store, world.spec, DAY)
    assert (books.requested, books.accepted) == (8, 8)  # the documents say the same
    assert [one.key for one in books.damaged] == [f"{asked.request.folder}/{asked.request.ids.name}"]
    world.store.replace(f"{asked.request.folder}/request.json", b"{}")
    assert world.poll().count("unchanged") == 1  # the log of what was asked says the same
    damaged = balance(world.store, world.spec, DAY).damaged
    assert {one.request_id for one in damaged} == {asked.request.request_id}
    assert f"{asked.request.folder}/request.json" in {one.key for one in damaged}


def test_what_was_asked_before_a_cell_is_not_read_for_it(world: World) -> None:
    today, world.day = world.day, "2026-02-03"
    daily = world.spec.model_copy(update={"documents": str(world.folder / "{day}.jsonl")})
    (world.folder / "documents.jsonl").rename(world.folder / f"{world.day}.jsonl")
    world.spec, later = daily, world.spec
    world.round()
    (before,) = read_requests(world.store, world.spec.name, world.day)
    world.day, world.spec = today, later
    world.write([f"{text}, please" for text in TEXTS])
    world.sandbox.set_fault(BatchFault(outcome="expired", finished=2))
    world.round()
    # Were it read, this would be said.
    world.store.delete([f"{before.request.folder}/{before.request.ids.name}"])
    assert world.balance().again == 6
    cells = pending_cells(world.api, world.store, Catalog(collections={world.spec.name: world.spec})).cells
    # The other day has a run for its own damage.
    assert {cell.day: cell.again for cell in cells} == {today: 6, before.request.day: 0}
    assert [p.count for p in plan_submission(world.store, world.spec, today, None).again] == [6]


def test_a_landing_whose_ids_are_damaged_is_not_believed(world: World) -> None:
    landing = world.round().landings[0]
    world.store.replace(f"{landing.folder}/{landing.accepted_file.name}", b"damage")
    assert world.balance().in_flight == 8
    assert world.poll().count("landed") == 1
    assert world.balance().accepted == 8


def test_a_batch_that_the_api_never_heard_of_waits_two_days_and_is_asked_again(world: World) -> None:
    world.submit()
    world.settle()
    (asked,) = read_requests(world.store, world.spec.name, world.day)
    assert asked.batch is not None
    forge(world.store, f"{asked.request.folder}/batch.json", batch_id=f"no{asked.batch.batch_id}")
    (row,) = world.poll().batches
    assert (row.state, world.balance().in_flight) == ("trouble", 8)
    with world.later(days=1.9):
        assert world.poll().batches[0].state == "trouble"
    with world.later(days=2.1):
        assert world.poll().batches[0].state == "lost"
    assert world.balance().again == 8


def test_documents_folder_is_left_as_it_was(world: World, tmp_path: Path) -> None:
    before = sorted(p.name for p in world.folder.iterdir())
    world.round()
    assert sorted(p.name for p in world.folder.iterdir()) == before
