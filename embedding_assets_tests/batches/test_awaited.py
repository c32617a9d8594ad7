"""What the API says it did is held against what was read; a difference means "not yet", and nothing is paid for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.client import ApiMissingError, EmbeddingApi
from embedding_assets.batches.landing import counting_landings
from embedding_assets.sandbox.faults import BatchFault, LineFault
from embedding_assets.settings import ApiSettings
from embedding_assets_tests.batches.conftest import World

T = TypeVar("T")


class LateApi(EmbeddingApi):
    """The real service, whose batches and files are shown otherwise than they are while it is late."""

    late = True

    def __init__(self, world: World, how: str) -> None:
        super().__init__(ApiSettings(world.sandbox.api_key, world.sandbox.base_url), retries=0)
        self.how = how

    def retrieve(self, batch_id: str) -> ApiBatch:
        batch = super().retrieve(batch_id)
        if self.late and batch.ended:
            if self.how.startswith("no file id"):
                batch = replace(batch, output_file_id=None)
            if self.how.endswith("without counts"):
                return replace(batch, requests=(0, 0, 0))
        return batch

    def read(self, file_id: str, take: Callable[[Iterator[bytes]], T]) -> T:
        if not self.late or self.how.startswith("no file id"):
            return super().read(file_id, take)
        if self.how == "missing":
            raise ApiMissingError("file", "is not there", "Wait.")
        whole = super().read(file_id, b"".join)
        half = len(whole) // 2
        between = whole.index(b"\n", half) + 1
        cut = {
            "empty": 0,
            "between lines": between,
            "in the last line": len(whole) - 9,
            "between, without counts": between,
        }
        return take(iter([whole[: cut.get(self.how, half - 20)]]))


LATE = ["no file id", "missing", "empty", "between lines", "within a line", "in the last line", "torn without counts"]
LATE += ["no file id, without counts", "between, without counts"]


@pytest.mark.parametrize("how", LATE)
def test_what_comes_late_or_short_is_waited_for_and_then_whole(world: World, how: str) -> None:
    world.submit()
    world.settle()
    world.api = late = LateApi(world, how)
    (row,) = world.poll().batches
    assert row.state == "pending"
    assert "the API" in row.reason
    assert not counting_landings(world.store, world.spec.name, world.day)
    with world.later(days=1.9):
        assert world.poll().count("pending") == 1
    books = world.balance()
    assert (books.in_flight, books.again) == (8, 0)
    assert row.reason in books.awaited[0]
    assert not world.submit().rows
    late.late = False
    world.poll()
    books = world.balance()
    assert (books.accepted, books.awaited, len(books.batches)) == (8, [], 1)


@pytest.mark.parametrize("how", LATE)
def test_what_never_comes_is_asked_again_after_two_days(world: World, how: str) -> None:
    world.submit()
    world.settle()
    world.api = LateApi(world, how)
    with world.later(days=2.1):
        world.poll()
        books = world.balance()
        assert books.accepted + books.again == 8
        assert books.again


def test_a_good_landing_is_not_replaced_by_less_nor_waited_for(world: World) -> None:
    world.round()
    for how in LATE:
        world.api = LateApi(world, how)
        assert world.poll().batches[0].state == "kept", how
    assert world.balance().accepted == 8


@pytest.mark.parametrize("counts", [(0, 0, 0), (8, 9, 0), (7, 7, 0), (8, 0, 8), (-1, -5, 0), (10**9, 10**9, 0)])
def test_wrong_counts_hold_back_nothing_that_is_whole(
    world: World, monkeypatch: pytest.MonkeyPatch, counts: tuple[int, int, int]
) -> None:
    world.submit()
    world.settle()
    retrieve = world.api.retrieve
    monkeypatch.setattr(world.api, "retrieve", lambda batch_id: replace(retrieve(batch_id), requests=counts))
    assert world.poll().count("landed") == 1
    assert world.balance().accepted == 8


def test_what_the_counts_do_not_claim_is_asked_again_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.sandbox.set_fault(BatchFault(lines=(LineFault("lost", 2),)))
    world.submit()
    world.settle()
    retrieve = world.api.retrieve
    monkeypatch.setattr(world.api, "retrieve", lambda batch_id: replace(retrieve(batch_id), requests=(8, 6, 0)))
    world.poll()
    assert (world.balance().accepted, world.balance().again) == (6, 2)


def test_an_error_file_that_is_not_there_yet_is_waited_for_while_records_are_missing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sandbox.set_fault(BatchFault(outcome="expired", finished=5))
    world.submit()
    world.settle()
    with monkeypatch.context() as late:

        def missing(file_id: str, path: Path) -> None:
            raise ApiMissingError("file", "is not there", "Wait.")

        late.setattr(world.api, "download", missing)
        (row,) = world.poll().batches
        assert row.state == "pending"
        assert "3 answers in the error file" in row.reason
        assert world.balance().in_flight == 8
    world.poll()
    assert (world.balance().accepted, world.balance().again) == (5, 3)


@pytest.mark.parametrize("late_for", ["missing", "unknown"])
def test_a_damaged_landing_has_the_same_patience(world: World, monkeypatch: pytest.MonkeyPatch, late_for: str) -> None:
    landing = world.round().landings[0]
    world.store.delete([f"{landing.folder}/{file.name}" for file in landing.files])
    real = world.api
    world.api = late = LateApi(world, "missing")
    if late_for == "unknown":

        def unknown(batch_id: str) -> ApiBatch:
            raise ApiMissingError("batch", "is not there", "Wait.")

        monkeypatch.setattr(late, "retrieve", unknown)
    assert world.poll().count("lost") == 0
    books = world.balance()
    assert (books.in_flight, books.again) == (8, 0)
    assert bool(books.awaited) == (late_for == "missing")
    world.api = real
    assert world.poll().count("landed") == 1
    assert (world.balance().accepted, len(world.balance().batches)) == (8, 1)
