"""Patterns of custom_ids: what they read, and that no id makes them look for long."""

from __future__ import annotations

import pytest

from embedding_assets.batches.patterns import compile_pattern
from embedding_assets.errors import ConfigurationError


@pytest.mark.parametrize(
    "text",
    [
        "{a}{b}",
        "{a}{b}{c}{d}x",
        "{a:int}{b:int}",
        "{a}#{b}{c:int}",
        "{a}line{b}line{c}",
        "{a:int}7{b}x{c}",
        "#{a}x{b}x",
    ],
)
def test_placeholders_that_nothing_sets_apart_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="has nothing that sets"):
        compile_pattern(text)


@pytest.mark.parametrize(
    ("text", "custom_id", "found"),
    [
        ("IMAGE#{image_id}#RECEIPT#{n:int}", "IMAGE#a-b#RECEIPT#-3", {"image_id": "a-b", "n": -3}),
        ("IMAGE#{image_id}#RECEIPT#{n:int}", "IMAGE#a#b#RECEIPT#3", None),
        ("IMAGE#{image_id}#RECEIPT#{n:int}", "IMAGE#a#RECEIPT#3#LINE#4", None),
        ("LINE#{n:int}", "LINE#0000000000000000000001", None),
        ("{all}", "any thing\n", {"all": "any thing\n"}),
        ("word{rest}", "word-1", {"rest": "-1"}),
        ("{a}-{b}", "x-y", {"a": "x", "b": "y"}),
        ("{a}:n{b:int}", "x:n7", {"a": "x", "b": 7}),
        ("{a:int}x{b:int}", "1x2", {"a": 1, "b": 2}),
        ("page{a}of{b:int}", "page1of2of3", {"a": "1of2", "b": 3}),
        ("#{a}x{b:int}", "#axx7", {"a": "ax", "b": 7}),
        ("{a:int}.{b}", "1.2", {"a": 1, "b": "2"}),
    ],
)
def test_what_a_pattern_reads(text: str, custom_id: str, found: dict[str, object] | None) -> None:
    assert compile_pattern(text).match(custom_id) == found


@pytest.mark.parametrize("text", ["{a}#{b}#{c}", "{a}-n{b}-n{c}-n{d:int}", "{a:int}x{b:int}x{c:int}", "{a}#{b}x{c}!"])
@pytest.mark.parametrize("piece", ["a", "#", "-n", "1", "1x", "a#", "-", "x", "#x"])
def test_all_but_one_placeholder_are_read_in_one_way_only(text: str, piece: str) -> None:
    """An id of n characters then takes at most n attempts, each of them once along the id."""
    pattern = compile_pattern(text)
    assert pattern.regex.pattern.count("(?=(?P<") >= pattern.regex.groups - 1
    assert pattern.match(piece * 2000 + "\n?") is None
    assert pattern.regex.fullmatch("?" + piece * 2000 + "?") is None or "!" not in text
