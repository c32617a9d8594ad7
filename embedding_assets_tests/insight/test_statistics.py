"""The numbers of a sample: what they say of damage, of duplicates, and of drift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_assets.insight.statistics import Searched, Statistics, centroid_shift, cut
from embedding_assets.records import RecordBatch
from embedding_assets_tests.insight.samples import cloud, numbers


@settings(max_examples=25)
@given(st.integers(0, 400), st.integers(0, 2**32 - 1))
def test_the_same_records_have_not_moved(count: int, seed: int) -> None:
    one = numbers(cloud(count, seed=seed))
    shift = centroid_shift(one, one)
    assert shift.moved == shift.beyond_chance == 0


@settings(max_examples=25)
@given(st.integers(200, 600), st.integers(0, 2**31))
def test_two_samples_of_one_collection_are_not_far_apart_and_a_moved_centre_is_seen(count: int, seed: int) -> None:
    before, now = numbers(cloud(count, seed=seed)), numbers(cloud(count, seed=seed + 1))
    assert centroid_shift(now, before).beyond_chance < 0.15
    assert centroid_shift(now, before).moved == pytest.approx(centroid_shift(before, now).moved)
    moved = numbers(cloud(count, seed=seed + 1, centre=4.0))
    assert centroid_shift(moved, before).beyond_chance > 0.3


def brought(records: RecordBatch, delta: str) -> RecordBatch:
    return replace(records, metadatas=[{**metadata, "ea:delta": delta} for metadata in records.metadatas])


def test_newcomers_are_held_against_the_others_and_seen_where_they_hardly_move_the_whole() -> None:
    others, alike, odd = cloud(600, seed=1), cloud(60, seed=2), cloud(60, seed=3, centre=4.0)
    before = numbers(brought(others, "old"))
    assert before.newcomers_off is None
    for new, least, most in ((alike, 0.0, 0.1), (odd, 0.5, 9.0)):
        newcomers = brought(new, "new")
        now = numbers(RecordBatch.joined([brought(others, "old"), newcomers]), newcomers=newcomers)
        assert now.newcomers == 60
        assert now.newcomers_off is not None
        assert least <= now.newcomers_off.beyond_chance <= most
        assert centroid_shift(now, before).beyond_chance < 0.15
        assert Statistics.of_content(orjson.loads(orjson.dumps(now.content()))) == now


def test_a_few_newcomers_or_a_first_version_are_not_judged() -> None:
    every = brought(cloud(300), "new")
    assert numbers(every, newcomers=every).newcomers_off is None
    few = brought(cloud(20, centre=9.0), "new")
    assert numbers(RecordBatch.joined([brought(cloud(300), "old"), few]), newcomers=few).newcomers_off is None


def test_vectors_of_two_models_are_not_compared() -> None:
    one = numbers(cloud(10))
    for changed in ({"model": "another"}, {"distance": "l2"}, {"dimension": 17}):
        with pytest.raises(ValueError, match="another model"):
            centroid_shift(replace(one, **changed), one)  # type: ignore[arg-type]


def test_broken_zero_and_textless_records_are_counted_and_change_nothing_else() -> None:
    sample = cloud(50)
    whole = numbers(sample)
    vectors = np.vstack([sample.embeddings, np.full((1, 16), np.nan), np.zeros((2, 16))]).astype(np.float32)
    more = RecordBatch(
        [*sample.ids, "a", "b", "c"], vectors, [*sample.documents, "", " ", "text"], [*sample.metadatas, {}, {}, {}]
    )
    found = numbers(more)
    assert (found.broken, found.zero, found.empty, found.sampled) == (1, 2, 2, 53)
    assert (found.norms, found.nearest) == (whole.norms, whole.nearest)
    assert found.centroid == whole.centroid


def test_equal_and_nearly_equal_vectors_are_told_apart() -> None:
    vectors = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    sample = replace(cloud(40), embeddings=vectors)
    near = vectors[:4] * np.float32(2) + np.float32(0.1)
    vectors = np.vstack([vectors, vectors[:10], near])
    twice = [*range(40), *range(10), *range(4)]
    found = numbers(replace(sample.take(twice), embeddings=vectors))
    assert found.duplicates == pytest.approx(10 / 54)
    assert found.near == 12  # four, those that they are near to, and the duplicates of these
    known = numbers(sample, searched=Searched(32, 32, 0.9, 0.25, 0.0))
    assert known.duplicates == 0.25


@given(st.integers(0, 30), st.booleans())
def test_numbers_survive_being_stored(count: int, searched: bool) -> None:
    known = Searched(32, 30, None, 0.5, 0.0) if searched else None
    one = numbers(cloud(count), searched=known, shown=3, text_chars=20)
    stored = orjson.dumps(one.content())
    assert Statistics.of_content(orjson.loads(stored)) == one
    assert Statistics.of_content({**orjson.loads(stored), "format": 1}) == replace(one, format=1)
    assert len(stored) < 5000


@pytest.mark.parametrize("content", [{}, {"format": 1}, {"format": 99}, {"format": "1"}])
def test_anything_else_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Statistics.of_content(content)


@given(st.text(), st.integers(0, 50))
def test_a_cut_text_is_never_longer_and_stands_on_one_line(text: str, chars: int) -> None:
    assert len(cut(text, chars)) <= chars
    assert len(cut(text, chars).splitlines()) <= 1
