"""What is special about the input file of a batch that another program submitted."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import orjson

from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.documents import Refused
from embedding_assets.batches.files import FORMAT, encode, find
from embedding_assets.errors import CorruptedError
from embedding_assets.store.objects import ObjectExistsError, ObjectStore


@dataclass(frozen=True)
class InputNotes:
    """What is special about a foreign batch's input file.

    Attributes:
        refused: its lines that are rejected by name.
        several: how many inputs each custom_id has that asks for a list; its records are `{custom_id}#{index}`.
        tokens: records that were asked for as tokens, so that nobody knows their text.
        others: custom_ids of the lines that are not this request's: other collections', or rejected by name.
    """

    refused: tuple[Refused, ...] = ()
    several: dict[str, int] = field(default_factory=dict)
    tokens: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    format: int = FORMAT


def write_input_notes(store: ObjectStore, folder_key: str, notes: InputNotes) -> str | None:
    """Write what is special about a foreign batch's input file; returns the object's name, None where nothing is."""
    if notes == InputNotes():
        return None
    said = orjson.dumps([[asdict(one) for one in notes.refused], notes.several, notes.tokens, notes.others])
    name = f"input-{hashlib.sha256(said).hexdigest()[:16]}.json"
    with suppress(ObjectExistsError):  # named by its content
        store.put_new(f"{folder_key}/{name}", encode(notes, f"{folder_key}/{name}"))
    return name


def read_input_notes(store: ObjectStore, request: Request) -> InputNotes:
    """What is special about a foreign batch's input file; CorruptedError where the object is damaged or gone."""
    if request.input_notes is None:
        return InputNotes()
    key = f"{request.folder}/{request.input_notes}"
    notes = find(store, InputNotes, key)
    if notes is None:
        raise CorruptedError(key, "is gone from the store", "Restore it from a copy, or remove its folder.")
    return notes
