"""What the checks of vectors say of numbers: what passes, what does not, how bad it is, and what to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from embedding_assets.catalog import CollectionSpec
from embedding_assets.expectations import Freshness
from embedding_assets.insight.statistics import Shift, Statistics
from embedding_assets.pipeline.quality import (
    AS_DECLARED,
    CHECKS,
    DUPLICATES,
    SOUND,
    STEADY,
    TEXTS,
    Judgement,
    judge_freshness,
    judge_rejects,
    judge_vectors,
)
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import head, load_snapshot
from embedding_assets_tests.insight.samples import cloud, numbers
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import bring_up_to_date, deliver, heal

GOOD = numbers(cloud(400), shown=0)


def declared(**changed: Any) -> CollectionSpec:
    return CollectionSpec.model_validate({"name": "lines", "model": "test-model", "dimensions": 16, **changed})


def judge(
    now: Statistics = GOOD, before: Statistics | None = None, spec: CollectionSpec | None = None
) -> dict[str, Judgement]:
    found = judge_vectors(now, before, spec or declared())
    assert [one.check for one in found] == list(CHECKS)
    return {one.check: one for one in found}


def failed(found: dict[str, Judgement]) -> dict[str, bool]:
    """Names of what did not pass, and whether it is severe."""
    return {name: one.severe for name, one in found.items() if not one.passed}


def test_good_vectors_pass_every_check_and_so_does_an_empty_collection() -> None:
    assert failed(judge()) == {}
    assert failed(judge(GOOD, GOOD)) == {}
    assert failed(judge(numbers(cloud(0)))) == {}


CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, bool], str]] = [
    ("another model", {"model": "old"}, {}, {AS_DECLARED: True}, "declare a new collection"),
    ("another dimension", {"dimension": 8}, {}, {AS_DECLARED: True}, "declared is test-model, 16"),
    ("a broken vector", {"broken": 1}, {}, {SOUND: True}, "no search finds them"),
    ("a zero vector", {"zero": 1}, {}, {SOUND: True}, "embedded again"),
    ("odd lengths", {"norms": (0.01, 1.0, 1.0, 1.0, 1.0)}, {}, {SOUND: False}, "`quality.norm`"),
    ("lengths as declared", {"norms": (0.01,) * 5}, {"quality": {"norm": [0.001, 1]}}, {}, ""),
    ("texts missing", {"empty": 1}, {}, {TEXTS: False}, "`quality.empty_share`"),
    ("texts may be missing", {"empty": 400}, {"quality": {"empty_share": None}}, {}, ""),
    ("duplicates are a number", {"duplicates": 0.99, "near": 400}, {}, {}, ""),
    ("duplicates", {"duplicates": 0.5}, {"quality": {"duplicate_share": 0.4}}, {DUPLICATES: False}, "50 %"),
    ("near ones", {"near": 200}, {"quality": {"near_duplicate_share": 0.4}}, {DUPLICATES: False}, "nearer than 0.02"),
]


@pytest.mark.parametrize(
    ("numbers_", "expected", "fails", "says"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_threshold_that_is_passed_fails_its_check_alone_and_says_what_to_do(
    numbers_: dict[str, Any], expected: dict[str, Any], fails: dict[str, bool], says: str
) -> None:
    found = judge(replace(GOOD, **numbers_), None, declared(**expected))
    assert failed(found) == fails
    for name in fails:
        assert says in found[name].said


def test_vectors_of_openai_are_to_have_the_length_1() -> None:
    spec = CollectionSpec(name="lines", model="text-embedding-3-small", dimensions=16)
    unit = replace(GOOD, model=spec.model, norms=(0.9999, 1.0, 1.0, 1.0, 1.0001))
    assert failed(judge(unit, None, spec)) == {}
    assert failed(judge(replace(unit, norms=(0.5,) * 5), None, spec)) == {SOUND: False}


def test_a_centre_that_moves_is_a_warning_unless_so_much_is_allowed() -> None:
    moved = numbers(cloud(400, seed=1, centre=4.0))
    found = judge(moved, GOOD)
    assert failed(found) == {STEADY: False}
    assert "compare the maps" in found[STEADY].said
    assert found[STEADY].numbers["centroid_shift"] > 0.15  # type: ignore[operator]
    assert failed(judge(moved, GOOD, declared(quality={"centroid_shift": 9.0}))) == {}
    assert failed(judge(moved, GOOD, declared(quality={"centroid_shift": None}))) == {}
    assert failed(judge(numbers(cloud(400, seed=1)), GOOD)) == {}


def test_odd_newcomers_are_a_warning_unless_so_much_is_allowed() -> None:
    odd = replace(GOOD, newcomers=60, newcomers_off=Shift(0.9, 0.4, 0.8))
    found = judge(odd, GOOD)
    assert failed(found) == {STEADY: False}
    assert found[STEADY].numbers["newcomers_off"] == 0.8
    assert "`newcomers_off` allows 0.5 beyond chance" in found[STEADY].said
    assert failed(judge(odd, GOOD, declared(quality={"newcomers_off": None}))) == {}
    assert failed(judge(replace(odd, newcomers_off=Shift(0.5, 0.4, 0.3)), GOOD)) == {}


def test_versions_of_two_models_are_not_compared() -> None:
    found = judge(GOOD, replace(GOOD, model="old", version="older"))
    assert failed(found) == {}
    assert "older is of another model" in found[STEADY].said


def test_rejects_are_an_error_only_beyond_their_share() -> None:
    assert judge_rejects(0, 0, declared()).passed
    assert judge_rejects(100, 5, declared()).passed
    many = judge_rejects(100, 6, declared())
    assert (many.passed, many.severe) == (False, True)
    assert "6 of 100 records were rejected, 6 %; at most 5 %" in many.said
    assert judge_rejects(100, 100, declared(quality={"rejected_share": None})).passed


def test_freshness_is_the_age_of_the_newest_delta_and_of_no_rebuild(folder_store: ObjectStore, tmp_path: Path) -> None:
    rule = Freshness.model_validate({"warn": "26h", "fail": "50h"})
    spec = SPEC.model_copy(update={"freshness": rule})
    assert judge_freshness(folder_store, SPEC) is None
    nothing = judge_freshness(folder_store, spec)
    assert nothing is not None
    assert (nothing.passed, nothing.severe) == (False, False)
    deliver(folder_store, tmp_path, "batch_1", numbered(0, 5))
    delta = bring_up_to_date(folder_store, tmp_path).deltas[0]
    heal(folder_store, tmp_path, rebuild=True)
    made = layout.time_of(delta)
    assert made is not None
    for hours, passed, severe in ((25, True, False), (27, False, False), (51, False, True)):
        found = judge_freshness(folder_store, spec, made + timedelta(hours=hours))
        assert found is not None
        assert (found.passed, found.severe) == (passed, severe)
        assert found.numbers["age_hours"] == pytest.approx(hours)
    commit = head(folder_store, "lines")
    assert commit is not None
    assert (commit.generation, load_snapshot(folder_store, "lines", commit).deltas) == (2, (delta,))
