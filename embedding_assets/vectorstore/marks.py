"""Marks of deltas that no snapshot holds yet, so that nobody has to look at all deltas that there ever were.

{collection}/waiting/{day}/{delta_id}        an empty object

A mark is made before the manifest of its delta, and goes only after a snapshot that holds the delta was committed. So a
committed delta is in the current snapshot, or marked, or both. That holds as long as every version is made from the one
before it, or from all deltas: the commit of such a version says so (`Commit.marked`). Where it does not (a version that
was rolled back to, one of an older system, a damaged log) or where the current version cannot be the base, all deltas
are looked at. A mark without a delta is no harm; `prune` removes it.
"""

from __future__ import annotations

from collections.abc import Iterable

from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore


def mark(store: ObjectStore, collection: str, day: str, delta_id: str) -> None:
    """Note that a delta is about to be committed; to do so again changes nothing."""
    store.put_new(layout.waiting(collection, day, delta_id), b"")


def marked(store: ObjectStore, collection: str) -> list[tuple[str, str]]:
    """(day, id) of the marked deltas, whether or not they were committed."""
    parts = (item.key.split("/") for item in store.walk(layout.waiting(collection)))
    return [(names[2], names[3]) for names in parts if len(names) == 4]


def unmark(store: ObjectStore, collection: str, deltas: Iterable[str]) -> None:
    """Remove the marks of these deltas: a committed snapshot holds them, or they never were."""
    gone = set(deltas)
    store.delete(layout.waiting(collection, day, name) for day, name in marked(store, collection) if name in gone)
