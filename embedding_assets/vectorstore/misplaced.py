"""Moves objects that are no database to the quarantine: damaged or moved records, folders in the place of objects."""

from __future__ import annotations

from collections.abc import Mapping

from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.quarantine import MovedFile, QuarantineReport, write_report

REASON = "is a folder where a file belongs"


def move_objects(
    store: ObjectStore, collection: str, name: str, folder: str, sizes: Mapping[str, int], reason: str, run_id: str
) -> None:
    """Move objects below a folder to the quarantine, as one entry.

    Args:
        name: of the entry; a new id is added to it.
        folder: where they lie.
        sizes: in bytes, by key.
        reason: why, for the report.
        run_id: who does it.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    name = f"{name}-{layout.new_id()}"
    aside = layout.quarantine(collection, "request", name)
    moved = tuple(MovedFile(key, f"{aside}/{key.removeprefix(f'{folder}/')}", size) for key, size in sizes.items())
    for one in moved:
        store.copy(one.original, one.key)
    write_report(
        store,
        QuarantineReport(
            "request", name, collection, folder, reason, (), None, None, moved, layout.now().isoformat(), run_id
        ),
    )
    store.delete(one.original for one in moved)


def make_room(store: ObjectStore, collection: str, key: str, run_id: str = "") -> bool:
    """Move what lies below the name of an object to the quarantine, so that the object can be written.

    Returns:
        Whether anything lay there.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    there = {item.key: item.size for item in store.walk(key)}
    if there:
        move_objects(store, collection, layout.part(key.rsplit("/", 1)[1]), key, there, REASON, run_id)
    return bool(there)
