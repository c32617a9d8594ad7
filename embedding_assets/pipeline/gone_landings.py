"""What landings and deltas tell of the rest: answers that a delta holds without a landing, or without any request."""

from __future__ import annotations

from contextlib import suppress

from embedding_assets.batches.balance import CellBalance
from embedding_assets.batches.landing import read_landing
from embedding_assets.batches.requests import Damaged
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.delta import list_deltas, readable_deltas

_UNLANDED = ("in flight", "given up", "lost")


def gone_landings(store: ObjectStore, books: CellBalance) -> list[Damaged]:
    """The batches of a cell without a landing whose records a delta holds.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    waiting = {row.batch_id: row.request_id for row in books.batches if row.batch_id and row.status in _UNLANDED}
    if not waiting:
        return []
    holders = _holders(store, books)
    return [
        Damaged(
            request_id,
            layout.results(books.collection, books.day, batch_id),
            f"its landing is gone, and delta {holders[batch_id][0]} holds {holders[batch_id][1]} of its records; the "
            "next run lands it again",
        )
        for batch_id, request_id in waiting.items()
        if batch_id in holders
    ]


def gone_requests(store: ObjectStore, books: CellBalance, *, read_deltas: bool = False) -> list[Damaged]:
    """The requests of a cell of which nothing is left but landings or deltas.

    Args:
        read_deltas: whether to read what the deltas hold also where the cell has requests.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    collection, day = books.collection, books.day
    known = {layout.part(row.batch_id) for row in books.batches if row.batch_id}
    named = {one.request_id for one in books.damaged}
    folder = layout.results(collection, day)
    found: dict[str, Damaged] = {}
    landed = set(store.folders(folder))
    for item in (item for part in sorted(landed - known) for item in store.walk(f"{folder}/{part}")):
        if item.key.endswith(f"/{layout.MANIFEST}"):
            with suppress(CorruptedError, ObjectMissingError):
                landing = read_landing(store, item.key)
                key = f"{layout.requests(collection, day, landing.request_id)}/{layout.REQUEST}"
                reason = f"is gone from the store, and batch {landing.batch_id} is landed"
                found[landing.request_id] = Damaged(landing.request_id, key, reason)
    # A collection of which nothing was ever asked here has deltas alone.
    asked = known or store.folders(layout.requests(collection)) or store.folders(layout.results(collection))
    told_by_deltas = asked and not named and (read_deltas or not books.batches)
    for batch_id, (delta_id, _) in _holders(store, books).items() if told_by_deltas else ():
        if layout.part(batch_id) not in known | landed:
            reason = f"no request of batch {batch_id} is left, and delta {delta_id} holds its records"
            found[batch_id] = Damaged(f"of batch {batch_id}", layout.requests(collection, day), reason)
    return [one for request_id, one in sorted(found.items()) if request_id not in named]


def _holders(store: ObjectStore, books: CellBalance) -> dict[str, tuple[str, int]]:
    """The delta that holds each batch of a cell, and how many of its records."""
    deltas = readable_deltas(store, list_deltas(store, books.collection, books.day))
    return {entry.batch_id: (delta.id, entry.applied) for delta in deltas for entry in delta.batches}
