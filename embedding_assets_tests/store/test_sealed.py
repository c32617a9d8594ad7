"""A sealed object tells every change of itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_assets.errors import ConfigurationError, CorruptedError
from embedding_assets.store.sealed import dump, seal, unseal

KEY = "lines/requests/2026-11-27/abc/batch.json"
CONTENT = {"batch_id": "batch_1", "created_at": 1764230400, "foreign": False, "ids": ["a", "b"], "format": 2}


def read(data: bytes, key: str = KEY, kind: str = "batch", newest: int = 2) -> dict[str, object]:
    return unseal(kind, key, data, newest=newest, sealed_since=2)


def test_a_sealed_object_says_what_it_was_given() -> None:
    assert read(seal("batch", KEY, CONTENT)) == CONTENT


def test_every_single_flipped_bit_is_noticed() -> None:
    data = seal("batch", KEY, CONTENT)
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptedError):
            read(bytes(flipped))


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, len(seal("batch", KEY, CONTENT)) - 1), tail=st.binary(max_size=8))
def test_what_is_cut_or_overwritten_is_noticed(cut: int, tail: bytes) -> None:
    data = seal("batch", KEY, CONTENT)
    if data[:cut] + tail != data:
        with pytest.raises(CorruptedError):
            read(data[:cut] + tail)


def test_a_neighbours_object_is_not_taken_for_this_one() -> None:
    with pytest.raises(CorruptedError, match="it is the batch"):
        read(seal("batch", KEY.replace("abc", "abd"), CONTENT))
    with pytest.raises(CorruptedError, match="it is the request"):
        read(seal("request", KEY, CONTENT))


def test_an_object_of_another_kind_is_damage_however_new_its_format_is() -> None:
    newer = {**CONTENT, "format": 3}
    for other in (
        seal("request", KEY, newer),
        seal("batch", f"{KEY}.old", newer),
        dump({**newer, "checksum": "0" * 64}),
    ):
        with pytest.raises(CorruptedError):
            read(other)


def test_a_newer_format_is_not_damage() -> None:
    with pytest.raises(ConfigurationError, match="has the format 3"):
        read(seal("batch", KEY, {**CONTENT, "format": 3}))


def test_what_was_written_before_there_were_seals_is_read() -> None:
    old = {**CONTENT, "format": 1}
    assert read(dump(old)) == old
    with pytest.raises(CorruptedError, match="checksum is missing"):
        read(dump(CONTENT))


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"7", b'"text"', b"{", b'{"format": "2"}', b'{"format": true}', b"\xff"]
)
def test_what_is_no_object_is_damaged(data: bytes) -> None:
    with pytest.raises(CorruptedError):
        read(data)
