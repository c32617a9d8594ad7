"""One wrong line in the declaration costs nothing, blocks nothing, and heals when it is put right."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from embedding_assets.batches.kinds import fits
from embedding_assets.batches.requests import read_requests
from embedding_assets.errors import ConfigurationError, EmbeddingAssetsError
from embedding_assets.pipeline.compacting import rebuild_snapshot
from embedding_assets.pipeline.operations import delete_deltas, repair
from embedding_assets.pipeline.pending import compaction_due
from embedding_assets.pipeline.proofs import prove_deltas
from embedding_assets.pipeline.status import collection_status
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.sandbox import BatchFault
from embedding_assets.store import layout
from embedding_assets.store.sealed import encode
from embedding_assets.vectorstore.delta import list_deltas
from embedding_assets.vectorstore.remove import execute_delete_deltas, plan_delete_deltas
from embedding_assets.vectorstore.snapshots import execute_delete_snapshots, plan_delete_snapshots
from embedding_assets_tests.cells import Cell, contents, receipt_lines
from embedding_assets_tests.pipeline.declarations import (
    WRONG,
    as_earlier_versions_asked,
    as_earlier_versions_built,
    as_earlier_versions_did,
    as_earlier_versions_landed,
    declared,
    serve_both_names,
)

pytestmark = pytest.mark.service
every_kind = pytest.mark.parametrize("kind", WRONG)


@pytest.fixture
def story(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> Cell:
    """Twenty records in a snapshot, and ten new documents."""
    made = serve_both_names(cell, monkeypatch)
    made.deliver()
    made.compact()
    made.write(receipt_lines(30))
    return made


def paid(cell: Cell) -> int:
    """Records in all batches of the collection that the service knows."""
    mine = [b for b in cell.api.list_batches() if b.metadata.get("collection") == cell.spec.name]
    return sum(b.requests[1] or 0 for b in mine)


def run_until_quiet(cell: Cell) -> int:
    """Do what the sensors ask for until they ask for nothing; how often they asked."""
    for turn in range(10):
        cells = cell.to_run()
        due = compaction_due(cell.store, cell.spec)
        if not cells and due is None:
            return turn
        for one in cells:
            if one.ask:
                cell.submit()
            cell.wait()
            cell.land()
            cell.build()
        if due is not None:
            cell.compact()
    raise AssertionError(f"never quiet: {cell.to_run()}, {compaction_due(cell.store, cell.spec)}")


def assert_all_is_well(cell: Cell, records: int) -> None:
    """Every record is in the snapshot, with a balance and a proof that say so, and a reader that finds each."""
    books, proof = cell.books(), cell.proof()
    assert (books.accepted, books.pending, books.rejected) == (records, 0, 0)
    assert (proof.problems, proof.lost, proof.waiting, proof.accepted) == ((), (), 0, records)
    assert cell.to_run() == []
    assert compaction_due(cell.store, cell.spec) is None
    with cell.read() as lines:
        assert lines.count() == records
        for record_id, text in receipt_lines(records).items():
            (found,) = lines.query(text, n=1)
            assert (found.id, round(found.distance or 0.0, 3)) == (record_id, 0.0)


@every_kind
def test_nothing_is_asked_under_a_declaration_that_the_collection_contradicts(story: Cell, kind: str) -> None:
    wrong, before = declared(story, **WRONG[kind]), contents(story.store)
    asked = len(list(story.api.list_batches()))
    with pytest.raises(ConfigurationError) as refused:
        wrong.submit()
    assert str(wrong.spec.vectors) in refused.value.reason
    assert str(story.spec.vectors) in refused.value.reason
    ((name, value),) = WRONG[kind].items()
    assert f"Put `{name}: {getattr(story.spec, name)}` back" in refused.value.remedy
    assert f"`{name}: {value}`" in refused.value.remedy
    assert (contents(story.store), len(list(story.api.list_batches()))) == (before, asked)
    story.deliver()
    story.compact()
    assert_all_is_well(story, 30)


@every_kind
def test_what_is_under_way_goes_on_while_the_declaration_is_wrong(story: Cell, kind: str, tmp_path: Path) -> None:
    wrong = declared(story, **WRONG[kind])
    story.submit()
    books = wrong.books()
    assert books.in_flight == 10
    wrong.wait()
    wrong.land()
    wrong.build()
    wrong.compact()
    assert (wrong.proof().accepted, wrong.proof().waiting) == (30, 0)
    assert wrong.to_run() == []
    found = check_collection(wrong.store, wrong.spec, "quick", tmp_path)
    assert [row["kind"] for row in found.rows if row.get("verdict") != "valid"] == ["declaration"]
    assert "Put" in collection_status(wrong.store, wrong.spec).declaration
    assert_all_is_well(story, 30)
    assert paid(story) == 30


@every_kind
def test_what_an_earlier_version_paid_for_under_a_wrong_declaration_is_asked_again_once(
    story: Cell, kind: str, tmp_path: Path
) -> None:
    delta = as_earlier_versions_did(declared(story, **WRONG[kind]))
    assert paid(story) == 30
    aside = 0 if kind == "distance" else 10  # the same vectors serve any distance

    # Corrected: each command tells the truth before anything has run.
    status = collection_status(story.store, story.spec)
    assert (status.requested, status.accepted, status.pending) == (30, 30 - aside, aside)
    assert status.declaration == ""
    assert any(delta.id in one for one in status.set_aside)
    assert status.uncompacted == 0
    found = check_collection(story.store, story.spec, "full", tmp_path)
    assert found.count("corrupted") == found.count("unknown") == 0
    (row,) = [row for row in found.rows if row["name"] == delta.id]
    assert "set aside" in str(row["reason"])
    plan = repair(story.store, story.spec, level="quick", run_id="test", scratch=tmp_path)
    assert plan.nothing
    assert delta.id in plan.warning
    assert "declare a new collection" not in plan.warning
    proof = prove_deltas(story.store, story.spec, story.day)
    assert proof.whole
    assert len(proof.waiting) == (kind == "distance")
    assert any("set aside" in one.remark for one in proof.deltas)

    assert run_until_quiet(story) <= 3
    assert_all_is_well(story, 30)
    assert paid(story) == 30 + aside
    assert run_until_quiet(story) == 0

    # The delta is named until somebody deletes it; that changes nothing else.
    assert any(delta.id in one for one in collection_status(story.store, story.spec).set_aside)
    planned = delete_deltas(story.store, story.spec, [delta.id], scratch=tmp_path)
    assert "set aside" in planned.warning
    assert "pending again" not in planned.warning
    planned.execute()
    assert run_until_quiet(story) == 0
    assert_all_is_well(story, 30)
    assert paid(story) == 30 + aside


@every_kind
def test_the_delta_is_deleted_before_anything_is_asked_again(story: Cell, kind: str, tmp_path: Path) -> None:
    delta = as_earlier_versions_did(declared(story, **WRONG[kind]))
    execute_delete_deltas(
        story.store, story.spec, plan_delete_deltas(story.store, story.spec.name, [delta.id]), tmp_path
    )
    run_until_quiet(story)
    assert_all_is_well(story, 30)


@every_kind
@pytest.mark.parametrize("how_far", ["asked", "landed"])
def test_a_wrong_turn_that_stopped_half_way(story: Cell, kind: str, how_far: str) -> None:
    wrong = declared(story, **WRONG[kind])
    as_earlier_versions_asked(wrong)
    if how_far == "landed":
        as_earlier_versions_landed(wrong)
    run_until_quiet(story)
    story.wait()
    run_until_quiet(story)
    assert_all_is_well(story, 30)


@every_kind
def test_good_documents_of_the_same_day_are_not_held_up(story: Cell, kind: str) -> None:
    wrong = declared(story, **WRONG[kind])
    as_earlier_versions_asked(wrong)
    as_earlier_versions_landed(wrong)
    story.write(receipt_lines(40))
    story.deliver()
    story.compact()
    run_until_quiet(story)
    assert_all_is_well(story, 40)


@pytest.mark.parametrize("kind", ["dimension", "model"])
def test_an_intent_of_another_kind_without_a_batch_is_never_sent(
    story: Cell, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(story.api), "upload", dies)
        with pytest.raises(KeyboardInterrupt):
            as_earlier_versions_asked(declared(story, **WRONG[kind]))
    assert [(one.ask, one.reasons) for one in story.to_run()] == [(True, ("10 records are to be asked again",))]
    run_until_quiet(story)
    assert_all_is_well(story, 30)
    assert paid(story) == 30


def test_what_is_to_be_asked_again_waits_for_the_right_declaration(story: Cell) -> None:
    """A wrong line must not keep finished batches from landing: their run asks for nothing."""
    wrong = declared(story, dimensions=128)
    story.sandbox.set_fault(BatchFault(outcome="expired", metadata={"collection": story.spec.name}))
    story.submit()
    story.wait()
    assert [(one.ask, one.reasons) for one in wrong.to_run()] == [(False, ("1 batches have finished",))]
    wrong.land()
    wrong.build()
    left = wrong.books().again
    assert left > 0
    assert wrong.to_run() == []
    assert [one.reasons for one in story.to_run()] == [(f"{left} records are to be asked again",)]
    run_until_quiet(story)
    assert_all_is_well(story, 30)


def test_a_rebuild_keeps_the_kind_whatever_is_declared(story: Cell, tmp_path: Path) -> None:
    wrong = declared(story, distance="ip")
    rebuild_snapshot(wrong.store, wrong.spec, run_id="test", scratch=tmp_path).execute()
    with story.read() as lines:
        assert (lines.count(), lines.manifest.parent) == (20, None)


@pytest.mark.parametrize("shards", [1, 3])
def test_shards_set_aside_the_same_deltas(story: Cell, shards: int) -> None:
    story = declared(story, shards=shards)
    aside = as_earlier_versions_did(declared(story, dimensions=128))
    run_until_quiet(story)
    assert_all_is_well(story, 30)
    with story.read() as lines:
        assert len(lines.manifest.parts) == shards
        assert aside.id not in lines.manifest.deltas


def test_a_request_of_another_program_and_kind_is_rejected_by_name_and_never_bought(story: Cell) -> None:
    wrong = declared(story, dimensions=128)
    as_earlier_versions_asked(wrong)
    (foreign,) = [
        one for one in read_requests(story.store, story.spec.name, story.day) if not fits(one.request, story.spec)
    ]
    key = f"{foreign.request.folder}/request.json"
    story.store.replace(key, encode(dataclasses.replace(foreign.request, foreign=True, number=0), key))
    entry = layout.asked(story.spec.name, story.day, foreign.request.number).removesuffix(".json")
    # What another program asked is not in the log of what was asked.
    story.store.delete([item.key for item in story.store.walk("") if item.key.startswith(entry)])
    story.wait()
    books = story.books()
    assert (books.accepted, books.rejected, books.pending) == (20, 10, 0)
    assert {one.code for one in books.rejections} == {"other_kind"}
    assert books.aside == [foreign.batch.batch_id if foreign.batch else ""]
    run_until_quiet(story)
    assert paid(story) == 30
    assert story.books().rejected == 10


@pytest.mark.parametrize("seed", range(3))
def test_in_any_order_each_record_is_paid_for_once_under_the_right_line(story: Cell, seed: int) -> None:
    """Steps of this version and of earlier ones, under right and wrong lines, in any order; then the line is right."""
    chance, records = random.Random(seed), 30

    def write_more() -> None:
        nonlocal records
        records += chance.randrange(1, 6)
        story.write(receipt_lines(records))

    def refused(wrong: Cell) -> None:
        with pytest.raises(ConfigurationError):
            wrong.submit()

    def earlier_built(wrong: Cell) -> None:
        with suppress(EmbeddingAssetsError):  # landings of several kinds, as ever
            as_earlier_versions_built(wrong)

    steps: list[Callable[[Cell], object]] = [
        lambda wrong: write_more(),
        refused,
        as_earlier_versions_asked,
        as_earlier_versions_landed,
        earlier_built,
        lambda wrong: chance.choice([story, wrong]).land(),
        lambda wrong: chance.choice([story, wrong]).build(),
        lambda wrong: chance.choice([story, wrong]).compact(),
        lambda wrong: story.submit(),
        lambda wrong: story.wait(),
    ]
    for _ in range(14):
        chance.choice(steps)(declared(story, **WRONG[chance.choice(list(WRONG))]))
        assert story.books().requested <= records
        assert story.proof().lost == ()
    story.submit()
    story.wait()
    run_until_quiet(story)
    assert_all_is_well(story, records)
    asked = [one.request for one in read_requests(story.store, story.spec.name, story.day) if one.batch]
    assert sum(request.count for request in asked if fits(request, story.spec)) == records


@every_kind
def test_without_a_snapshot_what_was_asked_and_built_stands_for_the_collection(
    cell: Cell, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = serve_both_names(cell, monkeypatch)
    wrong = declared(cell, **WRONG[kind])
    cell.submit()
    for step in (cell.wait, cell.land, cell.build):
        if kind != "distance":  # requests say nothing of it
            with pytest.raises(ConfigurationError):
                wrong.submit()
            assert (wrong.books().again, wrong.books().rejected) == (0, 0)
        step()
    with pytest.raises(ConfigurationError, match="its deltas hold"):
        wrong.submit()
    wrong.compact()
    assert_all_is_well(cell, 20)
    assert paid(cell) == 20


def test_setting_it_back_uses_what_was_set_aside(landed: Cell) -> None:
    """Two deltas of two kinds and no snapshot: each declaration finds its own."""
    wrong = declared(landed, distance="ip")
    landed.build()
    other = as_earlier_versions_built(wrong, again=True)
    landed.compact()
    assert_all_is_well(landed, 20)
    ids = {ref.id for ref in list_deltas(landed.store, landed.spec.name)}
    assert other.id in ids
    execute_delete_deltas(
        landed.store,
        landed.spec,
        plan_delete_deltas(landed.store, landed.spec.name, ids - {other.id}),
        landed.folder,
    )
    plan = plan_delete_snapshots(landed.store, landed.spec.name, timestamped=True)
    execute_delete_snapshots(landed.store, plan, run_id="test")
    wrong.compact()
    assert wrong.proof().accepted == 20
    assert wrong.proof().waiting == 0
