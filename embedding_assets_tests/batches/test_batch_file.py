"""Cutting into batches loses nothing and keeps the limits; patterns of ids go there and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_assets.batches.batch_file import cut, request_line
from embedding_assets.batches.patterns import compile_pattern
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import ConfigurationError

LINES = "IMAGE#{image_id}#RECEIPT#{receipt_id:int}#LINE#{line_id:int}"
WORDS = LINES + "#WORD#{word_id:int}"


@given(st.lists(st.integers(1, 50), max_size=200), st.integers(1, 20), st.integers(50, 200))
def test_cutting_loses_nothing_and_keeps_the_limits(sizes: list[int], requests: int, size: int) -> None:
    parts = list(cut(sizes, requests, size))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(sizes)))
    for part in parts:
        assert 0 < part.stop - part.start <= requests
        assert sum(sizes[part]) <= size


@given(st.lists(st.integers(1, 50), max_size=100), st.integers(0, 10))
def test_what_is_left_after_a_crash_is_cut_the_same_way(sizes: list[int], done: int) -> None:
    parts = list(cut(sizes, 7, 120))
    done = min(done, len(parts))
    start = parts[done - 1].stop if done else 0
    rest = [slice(p.start + start, p.stop + start) for p in cut(sizes[start:], 7, 120)]
    assert parts[done:] == rest


@pytest.mark.parametrize(
    ("model", "dimensions", "sent"),
    [("text-embedding-3-small", 512, 512), ("text-embedding-ada-002", 1536, None), ("something-else", 77, 77)],
)
def test_dimensions_are_sent_to_models_that_take_them(model: str, dimensions: int, sent: int | None) -> None:
    spec = CollectionSpec(name="lines", model=model, dimensions=dimensions)
    raw = json.loads(request_line(spec, "ä#1", "Grüße\n"))
    assert raw["custom_id"] == "ä#1"
    assert raw["url"] == "/v1/embeddings"
    assert raw["body"]["input"] == "Grüße\n"
    assert raw["body"].get("dimensions") == sent


@given(
    st.text(st.characters(exclude_characters="#\x00", codec="utf-8"), min_size=1),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_ids_go_through_their_own_pattern_and_no_other(image: str, receipt: int, line: int, word: int) -> None:
    lines, words = compile_pattern(LINES), compile_pattern(WORDS)
    line_id = f"IMAGE#{image}#RECEIPT#{receipt:05d}#LINE#{line:05d}"
    assert lines.match(line_id) == {"image_id": image, "receipt_id": receipt, "line_id": line}
    assert words.match(line_id) is None
    assert lines.match(f"{line_id}#WORD#{word}") is None
    found = words.match(f"{line_id}#WORD#{word}")
    assert found is not None
    assert found["word_id"] == word


@pytest.mark.parametrize(
    ("pattern", "custom_id", "found"),
    [
        ("DOC#{name}", "DOC#a", {"name": "a"}),
        ("DOC#{name}", "DOC#a#PAGE#1", None),
        ("DOC#{name}", "XDOC#a", None),
        ("DOC#{name}", "DOC#", None),
        ("{a}/{b}", "x/y", {"a": "x", "b": "y"}),
        ("{a}/{b}", "x/y/z", None),
        ("p{n:int}", "p-3", {"n": -3}),
        ("p{n:int}", "p3x", None),
        ("p{n:int}", "p٣", None),
        ("p.{n:int}", "pX3", None),
        ("a{x}b", "a\nb", {"x": "\n"}),
    ],
)
def test_patterns(pattern: str, custom_id: str, found: dict[str, object] | None) -> None:
    assert compile_pattern(pattern).match(custom_id) == found


@pytest.mark.parametrize("pattern", ["", "plain", "{a}{a}", "{a:float}", "{a}#{a:int}"])
def test_wrong_patterns_are_said(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="custom_id"):
        compile_pattern(pattern)
