"""Batches that deltas hold and whose landings are gone: nothing is lost, and the next run lands them again."""

from __future__ import annotations

from embedding_assets.batches.balance import CellBalance
from embedding_assets.batches.requests import Damaged
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
    deltas = readable_deltas(store, list_deltas(store, books.collection, books.day))
    holders = {entry.batch_id: (delta.id, entry.applied) for delta in deltas for entry in delta.batches}
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
