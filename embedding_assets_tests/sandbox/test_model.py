"""The model gives every text a vector that says something about it."""

from __future__ import annotations

import numpy as np
import pytest

from embedding_assets.sandbox.model import DIMENSIONS, Model, shorten

ODD = [
    "-",
    "...",
    ".",
    " ",
    "\n",
    "\t",
    "\x00",
    "*",
    "0",
    "€",
    "日本",
    "😀",
    "\u200b",
    "\ufffd",
    "a\u0301",
    "|||",
    "'",
    "ﬁ",
]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_odd_texts_have_finite_vectors_of_length_one(model: Model, dimensions: int) -> None:
    embedded = model.embed(ODD, longest=8192)
    vectors = shorten(embedded.sums, dimensions)
    assert vectors.shape == (len(ODD), dimensions)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (embedded.tokens > 0).all()


def test_every_character_has_a_vector(model: Model) -> None:
    characters = [chr(point) for point in range(0x3000) if not 0xD800 <= point <= 0xDFFF]
    assert shorten(model.embed(characters, longest=8192).sums, 64).any(axis=1).all()


def test_a_text_has_the_same_vector_in_any_company(model: Model) -> None:
    alone = model.embed(["TOTAL 12.40"], longest=8192).sums[0]
    others = [f"LINE {number} " * (number % 300) or "x" for number in range(500)]
    among = model.embed([*others, "TOTAL 12.40", *others], longest=8192).sums[500]
    assert alone.tobytes() == among.tobytes()


def test_texts_without_tokens_or_with_too_many_have_none(model: Model) -> None:
    embedded = model.embed(["", "one two three", "one"], longest=2)
    assert embedded.tokens.tolist() == [0, 3, 1]
    assert embedded.sums.any(axis=1).tolist() == [False, False, True]
    assert model.count_tokens(["", "one two three", "one"]) == 4


def test_like_is_nearer_than_unlike(model: Model) -> None:
    milk, cream, petrol = shorten(
        model.embed(["fresh milk", "whipping cream", "unleaded petrol"], longest=99).sums, 256
    )
    assert milk @ cream > milk @ petrol
