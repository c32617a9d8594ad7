"""What is special about the input file of a batch that another program submitted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import orjson

from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.documents import Refused
from embedding_assets.batches.files import find, in_parallel
from embedding_assets.batches.requests import Damaged
from embedding_assets.errors import CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import FORMAT, encode

GONE = "is gone from the store"


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


def write_input_notes(store: ObjectStore, collection: str, day: str, request_id: str, notes: InputNotes) -> str | None:
    """Write what is special about a foreign batch's input file, and a copy beside the log of what was asked.

    Returns:
        The object's name, which is a digest of what it says; None where nothing is special.
    """
    if notes == InputNotes():
        return None
    name = _name_of(notes)
    for key in (_copy(collection, day, name), f"{layout.requests(collection, day, request_id)}/{name}"):
        with suppress(ObjectExistsError):  # named by its content
            store.put_new(key, encode(notes, key))
    return name


def read_input_notes(store: ObjectStore, request: Request) -> InputNotes:
    """What is special about a foreign batch's input file; CorruptedError where the object is damaged or gone."""
    if request.input_notes is None:
        return InputNotes()
    return _read(store, f"{request.folder}/{request.input_notes}", request.input_notes)


def notes_of(store: ObjectStore, request: Request) -> tuple[dict[str, str], InputNotes | None]:
    """What is wrong with a request's notes and with their copy, by key; and what either says that is whole.

    An earlier version wrote no copy, so that one that is not there is written again, and is no damage.
    """
    wrong: dict[str, str] = {}
    notes: InputNotes | None = None
    name = request.input_notes or ""
    for key in (f"{request.folder}/{name}", _copy(request.collection, request.day, name)):
        try:
            notes = _read(store, key, name)
        except CorruptedError as error:
            wrong[key] = error.reason
    return wrong, notes


def damaged_notes(store: ObjectStore, requests: Iterable[Request]) -> list[Damaged]:
    """The notes of these requests that are damaged or gone, and the copies that are damaged."""
    found = in_parallel(lambda one: (one, notes_of(store, one)[0]), [one for one in requests if one.input_notes])
    return [
        Damaged(one.request_id, key, reason)
        for one, wrong in found
        for key, reason in wrong.items()
        if reason != GONE or key.startswith(f"{one.folder}/") or any(True for _ in store.walk(key))
    ]


def _name_of(notes: InputNotes) -> str:
    said = orjson.dumps([[asdict(one) for one in notes.refused], notes.several, notes.tokens, notes.others])
    return f"input-{hashlib.sha256(said).hexdigest()[:16]}.json"


def _copy(collection: str, day: str, name: str) -> str:
    return f"{layout.asked(collection, day)}/{name}"


def _read(store: ObjectStore, key: str, name: str) -> InputNotes:
    notes = find(store, InputNotes, key)
    reason = GONE if notes is None else "is not what its name says" if _name_of(notes) != name else ""
    if notes is None or reason:
        raise CorruptedError(key, reason, "Run `embedding-assets repair`, or restore it from a copy.")
    return notes
