"""Removes what nobody needs any more: what dead writers left behind, and old snapshot versions.

Nothing that has been committed and counts is touched, nothing young is (its writer may still be at it), and everything
is looked at once more right before it goes. What cannot be deleted is left for the next time: garbage is no error.

Where the grace is too short and a writer still lives, its work is lost to it, and nothing else is: the generation of a
version that could still be committed is taken first, and what gets its manifest meanwhile is deleted with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from embedding_assets.errors import CorruptedError, ObjectMissingError, StoreError
from embedding_assets.store import layout
from embedding_assets.store.objects import WRITE_CHECK, ObjectStore
from embedding_assets.vectorstore.commit import (
    LogEnd,
    history,
    load_commit,
    load_snapshot,
    log_end,
    try_commit,
    try_reset,
)
from embedding_assets.vectorstore.gone import Claims, gone_deltas, in_words
from embedding_assets.vectorstore.inventory import Inventory, StoredFolder, take_inventory
from embedding_assets.vectorstore.manifest import Manifest, load_manifest
from embedding_assets.vectorstore.quarantine import delete_database

GRACE = timedelta(hours=24)
LONGEST_GRACE = 24 * 365 * 10  # hours
KEEP = 5
_HELD = "a snapshot holds its delta"

_RUN = "prune"

GarbageKind = Literal[
    "unfinished delta",
    "unfinished snapshot",
    "unfinished landing",
    "lost race",
    "old",
    "report",
    "write check",
    "mark",
]
_FINISHED_BY_A_MANIFEST: frozenset[GarbageKind] = frozenset(
    ("unfinished delta", "unfinished snapshot", "unfinished landing", "lost race")
)


@dataclass(frozen=True)
class Garbage:
    """Something to be removed, and why."""

    kind: GarbageKind
    folder: StoredFolder
    reason: str


@dataclass(frozen=True)
class PrunePlan:
    """What pruning would remove.

    Attributes:
        collection: whose.
        garbage: what would go.
        kept: key prefix -> why, for what looks like garbage and stays.
        grace: nothing younger is touched, by the store's own timestamps.
        keep: so many of the newest versions stay.
    """

    collection: str
    garbage: tuple[Garbage, ...]
    kept: dict[str, str]
    grace: timedelta
    keep: int

    @property
    def size(self) -> int:
        """Bytes that would be freed."""
        return sum(one.folder.size for one in self.garbage)


@dataclass(frozen=True)
class Pruned:
    """What was removed; what was spared because it was not as planned any more; what the store did not delete."""

    removed: tuple[Garbage, ...]
    spared: tuple[Garbage, ...]
    failed: dict[str, str]


def plan_prune(
    store: ObjectStore, collection: str, *, keep: int = KEEP, grace: timedelta = GRACE, at: datetime | None = None
) -> PrunePlan:
    """What can be removed.

    Args:
        store, collection: whose.
        keep: so many of the newest committed versions stay, the current one among them.
        grace: how old unfinished things must be.
        at: the time that counts as now.
    """
    if keep < 1:
        raise ValueError("the current version is always kept: keep at least 1")
    now = at or layout.now()
    inventory = take_inventory(store, collection)
    end = log_end(store, collection)
    found = [
        *_unfinished(inventory, end),
        *_idle_marks(store, inventory, end),
        *_lost_races(store, collection, inventory, end),
        *_old_versions(store, collection, inventory, end, keep),
    ]
    garbage, kept = [], {}
    for one in found:
        # What is old was committed and replaced long since; what is unfinished may be somebody's work.
        # Where there is no log yet, nothing can take the generation of a first version from its writer.
        least = max(grace, GRACE) if end.commit is None and one.kind == "unfinished snapshot" else grace
        if one.kind != "old" and now - one.folder.modified < least:
            kept[one.folder.prefix] = f"{one.kind}, but younger than {least}"
        else:
            garbage.append(one)
    garbage += _reports(inventory, {one.folder.prefix for one in garbage})
    return PrunePlan(collection, tuple(garbage), kept, grace, keep)


def execute_prune(store: ObjectStore, plan: PrunePlan) -> Pruned:
    """Remove it, looking at each once more; what the store does not delete is left for the next time."""
    removed, spared, failed = [], [], {}
    for one in plan.garbage:
        try:
            if _still(store, plan, one) and _out_of_reach(store, plan, one):
                delete_database(store, one.folder.prefix, one.folder.keys)
                if one.kind in _FINISHED_BY_A_MANIFEST:  # its writer may have been about to write it
                    store.delete([f"{one.folder.prefix}/{layout.MANIFEST}"])
                removed.append(one)
            else:
                spared.append(one)
        except StoreError as error:
            failed[one.folder.prefix] = str(error)
    return Pruned(tuple(removed), tuple(spared), failed)


def _unfinished(inventory: Inventory, end: LogEnd) -> list[Garbage]:
    # A current version without manifest is damaged, and compaction's to move aside.
    current = end.head.version if end.head else None
    versions = [version for version in inventory.unfinished_snapshots if version.name != current]
    checks = [
        StoredFolder(i.key, i.key, (i,)) for i in inventory.strays if i.key.rpartition("/")[2].startswith(WRITE_CHECK)
    ]
    return [
        *(Garbage("unfinished delta", f, "it has no manifest") for f in inventory.unfinished_deltas),
        *(Garbage("unfinished snapshot", f, "it has no manifest") for f in versions),
        *(Garbage("unfinished landing", f, "it has no manifest") for f in inventory.unfinished_landings),
        *(Garbage("write check", f, "it was only written to see whether it can be") for f in checks),
    ]


def _reports(inventory: Inventory, going: set[str]) -> list[Garbage]:
    """The reports of versions that are gone, or go now."""
    there = {version.name for version in inventory.snapshots if version.prefix not in going}
    return [Garbage("report", one, "its snapshot is gone") for one in inventory.reports if one.name not in there]


def _idle_marks(store: ObjectStore, inventory: Inventory, end: LogEnd) -> list[Garbage]:
    """Marks of deltas that are in the current snapshot, or not there at all."""
    there = {delta.name for delta in inventory.deltas}
    try:
        held = set(load_snapshot(store, inventory.collection, end.head).deltas) if end.head and end.marked else set()
    except CorruptedError:
        held = set()
    found = []
    for item in inventory.marks:
        name, mark = item.key.rpartition("/")[2], StoredFolder(item.key, item.key, (item,))
        if name in held:
            found.append(Garbage("mark", mark, _HELD))
        elif name not in there:
            found.append(Garbage("mark", mark, "its delta is not there"))
    return found


def _lost_races(store: ObjectStore, collection: str, inventory: Inventory, end: LogEnd) -> list[Garbage]:
    """Whole versions that no commit names. Where the log is lost or damaged at its end, they may be what is left."""
    if end.commit is None or end.lost:
        return []
    found = []
    for version in inventory.snapshots:
        generation = layout.generation_of(version.name) or 0
        commit = load_commit(store, collection, generation)
        if generation <= end.generation + 1 and (commit is None or commit.version != version.name):
            reason = f"generation {generation} is {commit.version}" if commit else "it was never committed"
            found.append(Garbage("lost race", version, reason))
    return found


def _old_versions(store: ObjectStore, collection: str, inventory: Inventory, end: LogEnd, keep: int) -> list[Garbage]:
    """Committed versions beyond the newest ones, provided that the current one seems whole."""
    if end.head is None or end.lost:
        return []
    there = {version.name: version for version in inventory.snapshots}
    try:
        manifest = load_snapshot(store, collection, end.head)
    except CorruptedError:
        return []
    sizes = {item.key: item.size for version in inventory.snapshots for item in version.objects}
    if any(sizes.get(f"{manifest.folder}/{entry.path}") != entry.size for entry in manifest.files):
        return []  # the older ones are what it would be healed from
    committed = [str(c.version) for c in history(store, collection, there)]
    # Those from before a reset count for nothing any more.
    before = [v for v in there if v not in committed and _is_committed(store, collection, v)]
    old = [v for v in (*committed[keep:], *before) if v != manifest.id]
    only = _only_there(store, collection, {v: there[v] for v in old}, manifest)
    return [Garbage("old", there[v], f"{keep} newer versions are there{only.get(v, '')}") for v in old]


def _only_there(
    store: ObjectStore, collection: str, old: Mapping[str, StoredFolder], current: Manifest
) -> dict[str, str]:
    """What goes for good with these versions, in words: deltas that are gone and that the current one lacks."""
    claims: dict[str, frozenset[str]] = {}
    for version, folder in old.items():
        with contextlib.suppress(CorruptedError, ObjectMissingError):
            older = load_manifest(store, f"{folder.prefix}/{layout.MANIFEST}")
            claims[version] = frozenset(older.deltas) - frozenset(current.deltas)
    every = frozenset().union(*claims.values())
    gone = gone_deltas(store, collection, Claims(every)) if every else []
    said = {}
    for version, held in claims.items():
        mine = [one for one in gone if one.id in held]
        if mine:
            said[version] = f"; records go with it: {in_words(mine)}, and the current version lacks them"
    return said


def _is_committed(store: ObjectStore, collection: str, version: str) -> bool:
    commit = load_commit(store, collection, layout.generation_of(version) or 0)
    return commit is not None and commit.version == version


def _out_of_reach(store: ObjectStore, plan: PrunePlan, one: Garbage) -> bool:
    """Whether no writer can commit a version any more. The next generation is taken by the current version again."""
    if one.kind not in ("unfinished snapshot", "lost race"):
        return True
    end = log_end(store, plan.collection)
    if layout.generation_of(one.folder.name) != end.generation + 1:
        return True
    if end.lost:
        return False
    if end.commit is None:  # no log: it is older than any writer lives
        return True
    if end.head is None:
        return try_reset(store, plan.collection, end.generation + 1, _RUN)
    try:
        current = load_snapshot(store, plan.collection, end.head)
    except CorruptedError:  # the next compaction's to heal, and this may be it
        return False
    return try_commit(store, current, (), end.generation + 1, _RUN, marked=end.head.marked)


def _still(store: ObjectStore, plan: PrunePlan, one: Garbage) -> bool:
    """Whether it is garbage still: no object of it is new, above all no manifest, and nothing makes it current."""
    if one.kind == "mark":
        day, name = one.folder.name.split("/")[-2:]
        return one.reason == _HELD or not store.exists(f"{layout.deltas(plan.collection, day, name)}/{layout.MANIFEST}")
    now = list(store.walk(one.folder.prefix)) if one.kind != "write check" else list(one.folder.objects)
    if {(i.key, i.modified) for i in now} - {(i.key, i.modified) for i in one.folder.objects}:
        return False
    if one.kind == "report":
        return not store.exists(f"{layout.snapshots(plan.collection, one.folder.name)}/{layout.MANIFEST}")
    if one.kind not in ("old", "lost race"):
        return True
    end = log_end(store, plan.collection)
    if end.head is None or end.lost or end.head.version == one.folder.name:
        return False
    if one.kind == "lost race":
        return not _is_committed(store, plan.collection, one.folder.name)
    there = store.folders(layout.snapshots(plan.collection))
    newest = [str(commit.version) for commit in history(store, plan.collection, there)]
    return one.folder.name not in newest[: plan.keep]
