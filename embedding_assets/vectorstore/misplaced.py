"""Folders in the place of objects: what is in them moves to the quarantine, so that the objects can be written."""

from __future__ import annotations

from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.quarantine import MovedFile, QuarantineReport, write_report

REASON = "is a folder where a file belongs"


def make_room(store: ObjectStore, collection: str, key: str, run_id: str = "") -> bool:
    """Move what lies below the name of an object to the quarantine.

    Returns:
        Whether anything lay there.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    there = list(store.walk(key))
    if not there:
        return False
    name = f"{layout.part(key.rsplit('/', 1)[1])}-{layout.new_id()}"
    aside = layout.quarantine(collection, "request", name)
    moved = tuple(MovedFile(item.key, f"{aside}/{item.key[len(key) + 1 :]}", item.size) for item in there)
    for one in moved:
        store.copy(one.original, one.key)
    write_report(
        store,
        QuarantineReport(
            "request", name, collection, key, REASON, (), None, None, moved, layout.now().isoformat(), run_id
        ),
    )
    store.delete(one.original for one in moved)
    return True
