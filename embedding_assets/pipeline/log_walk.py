"""Follows the way of a reader: pointer, log, current version, manifest. Names what is wrong, changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from embedding_assets.errors import CorruptedError
from embedding_assets.pipeline.findings import Row
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.bases import lost_versions
from embedding_assets.vectorstore.commit import Commit, LogEnd, load_commit, load_snapshot, log_end
from embedding_assets.vectorstore.inventory import Inventory, list_databases
from embedding_assets.vectorstore.transfer import at_once

_REPAIR = "`embedding-assets repair` heals it."


def walk_log(store: ObjectStore, collection: str) -> list[Row]:
    """What is wrong between the pointer and the manifest of the current snapshot, one row for each thing.

    What a later commit has made good is `valid`, with the reason why it is told.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    while True:
        end = log_end(store, collection)
        inventory = list_databases(store, collection)
        keys = {item.key for item in inventory.commits}
        found = sorted(n for key in keys if (n := int(key[-15:-5])) <= end.generation)
        read = dict(zip(found, at_once(lambda n: load_commit(store, collection, n), found), strict=True))
        rows = [
            *_entries(store, collection, end, read),
            *_strangers(collection, end, keys),
            *_pointer(store, collection, end, read),
            *_head(store, collection, end),
            *_without_log(store, collection, end, inventory),
        ]
        if log_end(store, collection) == end:  # otherwise somebody has committed, and this is a mixture
            return rows


def _entries(store: ObjectStore, collection: str, end: LogEnd, read: Mapping[int, Commit | None]) -> list[Row]:
    newest = end.commit.generation if end.commit else 0
    last = max(end.generation, layout.generation_of(end.pointed) or 0) if end.lost else end.generation
    whole = lost_versions(store, collection, end) if end.lost else []
    rows = []
    for generation in [*range(min(read, default=last), end.generation + 1), *([last] if last > end.generation else [])]:
        if read.get(generation):
            continue
        what = "the commit cannot be read" if generation in read else "the commit is missing"
        if generation <= newest:
            said = {"verdict": "valid", "reason": f"damaged: {what}; later commits count"}
        else:
            instead = whole[0] if whole else end.head.version if end.head else None
            then = f"readers get {instead}" if instead else "readers get nothing"
            said = {"verdict": "corrupted", "reason": f"{what}; {then}", "remedy": _REPAIR}
        rows.append(_row("commit", layout.commit_log(collection, generation), **said))
    return rows


def _strangers(collection: str, end: LogEnd, keys: set[str]) -> list[Row]:
    last = layout.commit_log(collection, end.generation)
    reason = "no commit of this log, which ends long before it; it counts for nothing"
    return [
        _row("commit", key, verdict="unknown", reason=reason, remedy="Delete it.") for key in sorted(keys) if key > last
    ]


def _pointer(store: ObjectStore, collection: str, end: LogEnd, read: Mapping[int, Commit | None]) -> list[Row]:
    if end.head is None or end.pointed == end.head.version or end.lost:
        return []
    key = layout.pointer(collection)
    known = {commit.version for commit in read.values() if commit}
    then = "readers follow the log, the next compaction sets it"
    if end.pointed in known:
        return [_row("pointer", key, verdict="valid", reason=f"behind the log; {then}")]
    if not store.exists(key):
        return [_row("pointer", key, verdict="valid", reason=f"missing; {then}")]
    return [_row("pointer", key, verdict="corrupted", reason=f"it names no version of the log; {then}", remedy=_REPAIR)]


def _head(store: ObjectStore, collection: str, end: LogEnd) -> list[Row]:
    if end.head is None:
        return []
    try:
        load_snapshot(store, collection, end.head)
    except CorruptedError as error:
        return [_row("snapshot", str(end.head.version), verdict="corrupted", reason=error.reason, remedy=error.remedy)]
    return []


def _without_log(store: ObjectStore, collection: str, end: LogEnd, inventory: Inventory) -> list[Row]:
    """What shows that there was a log, where nothing is left of it, nor a pointer."""
    if end.commit is not None or end.generation or end.pointed:
        return []
    marked = {item.key for item in store.walk(layout.waiting(collection))}
    unmarked = [d for d in inventory.deltas if layout.waiting(collection, d.day, d.name) not in marked]
    later = [one.name for one in inventory.snapshots if (layout.generation_of(one.name) or 0) > 1]
    if not unmarked and not later:
        return []
    shown = f"{len(unmarked)} deltas were in a snapshot" if unmarked else f"there was a version {max(later)}"
    reason = f"it is gone, and {shown}; readers get nothing"
    return [_row("log", layout.commit_log(collection), verdict="corrupted", reason=reason, remedy=_REPAIR)]


def _row(kind: str, name: str, **said: str) -> Row:
    return {"kind": kind, "name": name, **said}
