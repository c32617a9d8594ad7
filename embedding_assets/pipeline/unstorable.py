"""Which accepted records no database takes, as the deltas name them."""

from __future__ import annotations

from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.delta import list_deltas, readable_deltas
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.quarantine import list_quarantine


def deltas_without_some(store: ObjectStore, collection: str, *, days: set[str] | None = None) -> list[Manifest]:
    """The deltas with records that are set aside; of all days, or of these."""
    refs = [ref for ref in list_deltas(store, collection) if days is None or ref.day in days]
    return [delta for delta in readable_deltas(store, refs) if delta.set_aside]


def count_set_aside(store: ObjectStore, collection: str) -> int:
    """How many records are set aside; reads the deltas of those days alone of which the quarantine has records."""
    entries = list_quarantine(store, collection)
    days = {entry.report.day for entry in entries if entry.kind == "record" and entry.report}
    return sum(delta.set_aside for delta in deltas_without_some(store, collection, days=days)) if days else 0
