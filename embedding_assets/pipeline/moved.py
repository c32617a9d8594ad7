"""Puts a request's folder back that somebody moved to another day or collection: its sealed record says where it lies.

What is proved is written at its own place, `request.json` last. What stood at the foreign place goes to the quarantine.
"""

from __future__ import annotations

from contextlib import suppress

import orjson

from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.files import NAMED_BY_CONTENT, is_named_by
from embedding_assets.batches.input_notes import InputNotes
from embedding_assets.batches.requests import Damaged, GivenUp, SentBatch
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import decode
from embedding_assets.vectorstore.misplaced import move_objects

_SEALED: dict[str, type[object]] = {layout.BATCH: SentBatch, layout.GIVEN_UP: GivenUp}


def put_back(store: ObjectStore, collection: str, day: str, damaged: Damaged, run_id: str) -> bool:
    """Put one request back where it belongs; whether it was at a foreign place at all.

    Args:
        collection, day: the foreign place.
        damaged: the record that does not belong there.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    here = layout.requests(collection, day, damaged.request_id)
    if damaged.key != f"{here}/{layout.REQUEST}":
        return False
    request = _belonging_elsewhere(store, damaged.key, here)
    if request is None:
        return False
    keys = [item.key for item in store.walk(here)]
    # The batch before the intent: an intent without one would be submitted.
    for key in sorted(keys, key=lambda key: (key == damaged.key, key.endswith(f"/{layout.BATCH}"))):
        name = key.removeprefix(f"{here}/")
        with suppress(ObjectExistsError, ObjectMissingError):
            data = store.get(key)
            if name == layout.REQUEST or _proved(request, name, data):
                store.put_new(f"{request.folder}/{name}", data)
    sizes = {key: size for key in keys if (size := store.size(key)) is not None}
    reason = f"it belongs to {request.folder}, where it was put back"
    move_objects(store, collection, request.request_id, here, sizes, reason, run_id)
    return True


def _belonging_elsewhere(store: ObjectStore, key: str, here: str) -> Request | None:
    """The request whose whole record lies under a key that is not its own."""
    try:
        data = store.get(key)
        raw = orjson.loads(data)
        own = raw.get("key") if isinstance(raw, dict) else None
        request = decode(Request, str(own or key), data)
    except (CorruptedError, ObjectMissingError, ValueError):
        return None
    # The record alone, of another request, was put here by mistake: the folder is that request's, and stays.
    moved = request.folder != here and request.request_id == here.rpartition("/")[2]
    if not moved or not layout.is_path(request.folder):
        return None
    # One that was sealed for this place and says another was edited, and not moved; the first ones say no place.
    return request if own in (None, f"{request.folder}/{layout.REQUEST}") else None


def _proved(request: Request, name: str, data: bytes) -> bool:
    """Whether an object is that of the request, and as it was written."""
    if NAMED_BY_CONTENT.fullmatch(name):
        return is_named_by(name, data)
    kind = InputNotes if name == request.input_notes else _SEALED.get(name)
    if kind is None:
        return False
    try:
        decode(kind, f"{request.folder}/{name}", data)
    except CorruptedError:
        return False
    return True
