"""Whose batch it is: every store has an identity, and the batches that are created for it carry it.

Several deployments may share an API account, and even the names and documents of their collections. Each cancels,
adopts and counts only batches that carry the identity of its own store.

_store.json   a random id, written once: whoever comes second reads what the first one wrote
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.files import FORMAT, decode, encode
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore

STORE_KEY = "embedding_assets_store"  # of a batch's metadata

Creator: TypeAlias = Literal["own", "other", "unsaid"]

_known: WeakKeyDictionary[ObjectStore, str] = WeakKeyDictionary()


@dataclass(frozen=True)
class StoreIdentity:
    """What tells one store from all others; `store_id` are 32 random hexadecimal digits."""

    store_id: str
    made: str
    format: int = FORMAT


def identity_of(store: ObjectStore) -> str:
    """The store's id; it is given one if it has none yet.

    Raises:
        CorruptedError: the object that holds it cannot be read.
        StoreError: the store did not answer, or refuses.
    """
    found = known_identity(store)
    if not found:
        made = StoreIdentity(secrets.token_hex(16), layout.new_id())
        with suppress(ObjectExistsError):  # then another run was faster, and its id is the one that counts
            store.put_new(layout.IDENTITY, encode(made, layout.IDENTITY))
        found = known_identity(store)
    return found


def known_identity(store: ObjectStore) -> str:
    """The store's id; empty where it has none, since nothing was ever submitted for it. Errors as `identity_of`."""
    if store not in _known:
        try:
            data = store.get(layout.IDENTITY)
        except ObjectMissingError:
            return ""
        try:
            _known[store] = decode(StoreIdentity, layout.IDENTITY, data).store_id
        except CorruptedError as error:
            raise CorruptedError(
                layout.IDENTITY,
                error.reason,
                "Restore it from a copy. If there is none, let all batches end and remove it: the store gets a new "
                "identity, and what was sent under the old one is still landed.",
            ) from error
    return _known[store]


def creator_of(batch: ApiBatch, store_id: str) -> Creator:
    """Whether a batch was created for the store of this id, or another, or does not say.

    Batches of other programs do not say, and neither do ours of versions before stores had an identity.
    """
    said = batch.metadata.get(STORE_KEY)
    if not said:
        return "unsaid"
    return "own" if said == store_id else "other"
