"""Why a request was not sent when that was first tried: a note beside its intent, made void by its batch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.files import find
from embedding_assets.errors import CorruptedError
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import encode

_NAME = "held.json"


@dataclass(frozen=True)
class Held:
    """What kept a request from being sent when that was first tried; `code` is one of `refusals`."""

    request_id: str
    reason: str
    code: str


def note_held(store: ObjectStore, request: Request, reason: str, code: str) -> None:
    """Keep, once for each request, why it is not sent yet."""
    key = f"{request.folder}/{_NAME}"
    with suppress(ObjectExistsError):
        store.put_new(key, encode(Held(request.request_id, reason, code), key))


def read_held(store: ObjectStore, request: Request) -> Held | None:
    """Why a request without a batch is not sent yet; None where nothing is known of it."""
    try:
        return find(store, Held, f"{request.folder}/{_NAME}")
    except CorruptedError:
        return None  # it says why, and decides nothing
