"""Records: what is accepted, how they travel, and the digest of a set of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_assets.records import (
    BATCH_KEY,
    DELTA_KEY,
    SUBMITTED_KEY,
    ContentDigest,
    Origin,
    RecordBatch,
    clean_id,
    clean_metadata,
    clean_text,
    digest_of,
)

scalars = (
    st.text(max_size=8)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
)


@st.composite
def record_batches(draw: st.DrawFn) -> RecordBatch:
    ids = draw(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=12, unique=True))
    vectors = np.array(
        [draw(st.lists(st.floats(width=32, allow_nan=False), min_size=3, max_size=3)) for _ in ids], np.float32
    )
    metadatas = [draw(st.dictionaries(st.text(min_size=1, max_size=4), scalars, max_size=3)) for _ in ids]
    return RecordBatch(ids, vectors, [draw(st.text(max_size=8)) for _ in ids], metadatas)


@settings(deadline=None)
@given(record_batches())
def test_records_survive_the_journey_through_arrow(batch: RecordBatch) -> None:
    back = RecordBatch.from_arrow(batch.to_arrow())
    assert (back.ids, back.documents, back.metadatas) == (batch.ids, batch.documents, batch.metadatas)
    assert back.embeddings.tobytes() == batch.embeddings.tobytes()
    assert digest_of([back]).hex() == digest_of([batch]).hex()


def test_a_sliced_arrow_table_keeps_each_vector_with_its_id() -> None:
    batch = RecordBatch(list("abcd"), np.arange(8, dtype=np.float32).reshape(4, 2), list("wxyz"), [{}] * 4)
    part = RecordBatch.from_arrow(batch.to_arrow().slice(2, 2))
    assert part.ids == ["c", "d"]
    assert part.embeddings.tolist() == [[4, 5], [6, 7]]


@settings(deadline=None)
@given(record_batches(), st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_order_or_on_how_records_are_batched(batch: RecordBatch, random: Any) -> None:
    order = list(range(len(batch)))
    random.shuffle(order)
    singles = [batch.take([i]) for i in order]
    assert digest_of(singles).hex() == digest_of([batch]).hex()
    assert digest_of(singles).count == len(batch)


def _one(**change: Any) -> str:
    base = {"id": "a", "vector": [1.0, 2.0], "document": "text", "metadata": {"k": 1}}
    now = {**base, **change}
    batch = RecordBatch([now["id"]], np.array([now["vector"]], np.float32), [now["document"]], [now["metadata"]])
    return ContentDigest().add(batch).hex()


@pytest.mark.parametrize(
    "change",
    [
        {"id": "b"},
        {"vector": [1.0, 2.0000002]},
        {"vector": [2.0, 1.0]},
        {"document": "texT"},
        {"metadata": {"k": 2}},
        {"metadata": {"k": 1.0}},
        {"metadata": {"k": True}},
        {"metadata": {"k": "1"}},
        {"metadata": {}},
        {"metadata": {"k": 1, "l": 1}},
    ],
)
def test_the_digest_changes_with_any_part_of_a_record(change: dict[str, Any]) -> None:
    assert _one(**change) != _one()


def test_the_digest_does_not_depend_on_the_order_of_metadata_keys() -> None:
    assert _one(metadata={"a": 1, "b": 2}) == _one(metadata={"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"x": None}, "NoneType"),
        ({"x": []}, "empty list"),
        ({"x": [1, 1.0]}, "float and int"),
        ({"x": [[1]]}, "list of type list"),
        ({"x\x00": 1}, "NUL"),
        ({"\ud800": 1}, "surrogate"),
        ({"x": {"y": 1}}, "dict"),
        ({"x": math.nan}, "nan"),
        ({"x": math.inf}, "inf"),
        ({"x": 2**63}, "64 bits"),
        ({"": 1}, "non-empty"),
        ({"ea:batch": "mine"}, "reserved"),
        ({"chroma:document": "mine"}, "reserved"),
        ({"#document": "mine"}, "ChromaDB refuses"),
        ({"$and": "mine"}, "ChromaDB refuses"),
        ({"x": 1.7976931348623157e308}, "cannot hold"),
        ({"x": "a\x00b"}, "NUL"),
        ({"x": "\ud800"}, "surrogate"),
    ],
)
def test_metadata_that_chromadb_cannot_hold_is_refused_with_its_key(metadata: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        clean_metadata(metadata)


def test_metadata_keeps_its_types_and_floats_keep_fifteen_digits() -> None:
    clean = clean_metadata({"i": 1, "f": 0.1 + 0.2, "b": True, "s": "x", "big": -(2**63)})
    assert clean == {"i": 1, "f": 0.3, "b": True, "s": "x", "big": -(2**63)}
    assert [type(value) for value in clean.values()] == [int, float, bool, str, int]


@pytest.mark.parametrize("value", ["", "  \n", None, 7, ["text"], "a\x00b", "\udfff"])
def test_empty_or_unsound_text_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="the text"):
        clean_text(value)


@pytest.mark.parametrize("value", ["", " ", None, 7, "x" * 513, "é" * 300])
def test_ids_that_not_every_part_can_hold_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="the id"):
        clean_id(value)


def test_the_later_submission_is_the_greater_origin_then_the_batch_then_the_delta() -> None:
    origins = [Origin(1, "b", "d"), Origin(2, "a", "a"), Origin(2, "a", "b"), Origin(2, "b", "a")]
    assert sorted([origins[2], origins[0], origins[3], origins[1]]) == origins
    assert Origin.of({SUBMITTED_KEY: 2, BATCH_KEY: "a", DELTA_KEY: "b"}) == origins[2]
    assert Origin.of({}) < origins[0]
