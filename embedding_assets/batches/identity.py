"""Whose batch it is: every store has an identity, and the batches that are created for it carry it.

Several deployments may share an API account, and even the names and documents of their collections. Each cancels,
adopts and counts only batches that carry the identity of its own store.

_store.json        a random id, written once: whoever comes second reads what the first one wrote
_store/{id}.json   its copy, whose name alone says the id: what counts where the first is damaged or gone
"""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import FORMAT, decode, encode

STORE_KEY = "embedding_assets_store"  # of a batch's metadata

Creator: TypeAlias = Literal["own", "other", "unsaid"]

_ID = re.compile(r"[0-9a-f]{32}")

_known: WeakKeyDictionary[ObjectStore, str] = WeakKeyDictionary()
_whole: WeakSet[ObjectStore] = WeakSet()  # whose identity this process has found or put right in both places


@dataclass(frozen=True)
class StoreIdentity:
    """What tells one store from all others; `store_id` are 32 random hexadecimal digits."""

    store_id: str
    made: str
    format: int = FORMAT


def identity_of(store: ObjectStore) -> str:
    """The store's id; it is given one if it has none yet. Both objects that hold it are put right.

    Raises:
        CorruptedError: the object that holds it cannot be read, and there is no copy, or no single one.
        StoreError: the store did not answer, or refuses.
    """
    if store in _whole:
        return _known[store]
    found = known_identity(store)
    if not found:
        with suppress(ObjectExistsError):  # then another run was faster, and its id is the one that counts
            store.put_new(layout.IDENTITY, _encoded(secrets.token_hex(16)))
        found = known_identity(store)
    with suppress(ObjectExistsError):
        copy = layout.identity_copies(found)
        store.put_new(copy, encode(StoreIdentity(found, layout.new_id()), copy))
    if identity_problem(store):
        store.replace(layout.IDENTITY, _encoded(found))
    _whole.add(store)
    return found


def known_identity(store: ObjectStore) -> str:
    """The store's id; empty where it has none, since nothing was ever submitted for it. Errors as `identity_of`."""
    if store not in _known:
        try:
            found = _read(store)
        except CorruptedError as error:
            found = _copied(store)
            if not found:
                raise CorruptedError(
                    layout.IDENTITY,
                    error.reason,
                    "Restore it from a copy. If there is none, let all batches end and remove it and `_store/`: the "
                    "store gets a new identity, and what was sent under the old one is still landed.",
                ) from error
        found = found or _copied(store)
        if not found:
            return ""
        _known[store] = found
    return _known[store]


def identity_problem(store: ObjectStore) -> str:
    """What is wrong with the object that holds the store's id, where there is a copy to mend it from; else empty."""
    try:
        found = _read(store)
    except CorruptedError as error:
        reason = error.reason
    else:
        reason = "" if found else "is gone from the store"
    return reason if reason and _copied(store) else ""


def _read(store: ObjectStore) -> str:
    try:
        return decode(StoreIdentity, layout.IDENTITY, store.get(layout.IDENTITY)).store_id
    except ObjectMissingError:
        return ""


def _copied(store: ObjectStore) -> str:
    """The id that the copy's name says; empty where there is none, or several and nobody knows which counts."""
    names = [item.key.rsplit("/", 1)[-1].removesuffix(".json") for item in store.walk(layout.identity_copies())]
    ids = [name for name in names if _ID.fullmatch(name)]
    return ids[0] if len(ids) == 1 else ""


def _encoded(store_id: str) -> bytes:
    return encode(StoreIdentity(store_id, layout.new_id()), layout.IDENTITY)


def creator_of(batch: ApiBatch, store_id: str) -> Creator:
    """Whether a batch was created for the store of this id, or another, or does not say.

    Batches of other programs do not say, and neither do ours of versions before stores had an identity.
    """
    said = batch.metadata.get(STORE_KEY)
    if not said:
        return "unsaid"
    return "own" if said == store_id else "other"
