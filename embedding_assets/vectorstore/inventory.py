"""What a collection has in the store, sorted by what it is: one listing, nothing is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from embedding_assets.chroma.hnsw_files import HNSW_FILES
from embedding_assets.chroma.index_metadata import INDEX_METADATA_FILE
from embedding_assets.chroma.sqlite_reader import SQLITE_FILE
from embedding_assets.store import layout
from embedding_assets.store.objects import WRITE_CHECK, ObjectStore, StoredObject
from embedding_assets.vectorstore.delta import DeltaRef
from embedding_assets.vectorstore.marks import marked
from embedding_assets.vectorstore.transfer import at_once

ADOPTED = "adopted-as-"  # followed by a delta's id: an empty object in a legacy folder
LEFT_OUT = "not-to-be-adopted"  # in a legacy folder whose delta was deleted by hand
_INDEX_FILES = {*HNSW_FILES, INDEX_METADATA_FILE}
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_COMMIT = re.compile(r"\d{10}\.json")


@dataclass(frozen=True)
class StoredFolder:
    """A folder with all objects below it.

    Attributes:
        name: a delta's id, a snapshot's version, a quarantine entry's or a legacy folder's name.
        prefix: its key prefix, without a slash at the end.
        objects: all objects below it, sorted by key.
    """

    name: str
    prefix: str
    objects: tuple[StoredObject, ...]

    @property
    def size(self) -> int:
        """Bytes of all objects together."""
        return sum(item.size for item in self.objects)

    @property
    def modified(self) -> datetime:
        """The newest of the store's own timestamps."""
        return max(item.modified for item in self.objects)

    @property
    def keys(self) -> list[str]:
        """The keys of all objects."""
        return [item.key for item in self.objects]

    def has(self, path: str) -> bool:
        """Whether there is an object of this path below it."""
        return f"{self.prefix}/{path}" in self.keys


@dataclass(frozen=True)
class StoredDelta(StoredFolder):
    """A delta's folder, and the day of its cell."""

    day: str

    def ref(self, collection: str) -> DeltaRef:
        """The delta, as others call it."""
        return DeltaRef(self.name, self.day, collection)


@dataclass(frozen=True)
class Inventory:
    """A collection's objects, each in exactly one place; requests and whole landings are not looked at.

    Attributes:
        collection: whose.
        deltas: committed deltas: their manifest is there, whatever it says.
        unfinished_deltas: folders of deltas that have no manifest: being written, left behind, or robbed of it.
        legacy_deltas: any other folder below `delta/` with a ChromaDB database, however deep; none has a manifest.
        snapshots, unfinished_snapshots: versions with and without a manifest, committed or not.
        legacy_snapshots: other databases below `snapshot/`.
        reports: of versions, whether these are still there or not.
        commits: the entries of the log.
        pointer: None where there is none.
        quarantined: entries of the quarantine.
        unfinished_landings: folders of landings without a manifest.
        marks: of deltas that no snapshot holds yet, or did not a moment ago.
        strays: what belongs to none of them.
    """

    collection: str
    deltas: tuple[StoredDelta, ...]
    unfinished_deltas: tuple[StoredDelta, ...]
    legacy_deltas: tuple[StoredFolder, ...]
    snapshots: tuple[StoredFolder, ...]
    unfinished_snapshots: tuple[StoredFolder, ...]
    legacy_snapshots: tuple[StoredFolder, ...]
    reports: tuple[StoredFolder, ...]
    commits: tuple[StoredObject, ...]
    pointer: StoredObject | None
    quarantined: tuple[StoredFolder, ...]
    unfinished_landings: tuple[StoredFolder, ...]
    marks: tuple[StoredObject, ...]
    strays: tuple[StoredObject, ...]

    def waiting_legacy(self, compacted: Iterable[str] = ()) -> list[StoredFolder]:
        """Legacy folders that no delta stands for yet, the newest first.

        Snapshots from before there was a log are among them only while there is none: later ones hold more.

        Args:
            compacted: ids of deltas that the current snapshot holds, whether or not they are still in the store.
        """
        known = {delta.name for delta in self.deltas} | set(compacted)
        folders = [*self.legacy_deltas, *(() if self.commits else self.legacy_snapshots)]
        waiting = [folder for folder in folders if not folder.has(LEFT_OUT) and not known & adopted_as(folder)]
        return sorted(waiting, key=lambda folder: (folder.modified, folder.prefix), reverse=True)


def adopted_as(folder: StoredFolder) -> set[str]:
    """The ids of the deltas that were made of a legacy folder."""
    start = f"{folder.prefix}/{ADOPTED}"
    return {key.removeprefix(start) for key in folder.keys if key.startswith(start)}


def take_inventory(store: ObjectStore, collection: str) -> Inventory:
    """List everything of a collection."""
    return sort_objects(collection, store.walk(collection))


def list_databases(store: ObjectStore, collection: str) -> Inventory:
    """List only deltas and snapshots, which is what compaction needs: two listings."""
    objects = [*store.walk(layout.deltas(collection)), *store.walk(f"{collection}/snapshot")]
    return sort_objects(collection, objects)


def list_missing(store: ObjectStore, collection: str, held: Iterable[str]) -> Inventory:
    """List only the marked deltas that a snapshot does not hold, and legacy data below `delta/`.

    That is one listing of the marks, one of the days' names, and one of each day that has a mark, from the oldest
    marked delta on: it does not grow with the number of deltas that there ever were. Legacy data inside a day's folder
    is not seen, but by whoever lists everything.

    Args:
        store, collection: whose.
        held: ids of the deltas in the snapshot.
    """
    known = set(held)
    wanted: dict[str, list[str]] = {}
    for day, name in marked(store, collection):
        if name not in known:
            wanted.setdefault(layout.deltas(collection, day), []).append(name)
    places = [(folder, _just_before(f"{folder}/{min(names)}")) for folder, names in wanted.items()]
    others = [name for name in store.folders(layout.deltas(collection)) if not _DAY.fullmatch(name)]
    places += [(f"{layout.deltas(collection)}/{name}", "") for name in others]
    found = at_once(lambda place: list(store.walk(place[0], after=place[1] or None)), places)
    inventory = sort_objects(collection, (item for objects in found for item in objects))
    return replace(
        inventory,
        deltas=tuple(
            delta for delta in inventory.deltas if delta.name in wanted.get(layout.deltas(collection, delta.day), ())
        ),
    )


def _just_before(folder: str) -> str:
    """A key to list after so that this folder is listed; some servers leave out all that is below that key."""
    return folder[:-1]


def sort_objects(collection: str, objects: Iterable[StoredObject]) -> Inventory:
    """Sort the objects of a collection by what they belong to."""
    deltas: dict[tuple[str, str], list[StoredObject]] = {}
    snapshots: dict[str, list[StoredObject]] = {}
    landings: dict[tuple[str, str, str], list[StoredObject]] = {}
    reports: dict[str, list[StoredObject]] = {}
    quarantined: dict[tuple[str, str], list[StoredObject]] = {}
    others: dict[str, list[StoredObject]] = {"delta": [], "snapshot": []}
    commits, marks, strays, pointer = [], [], [], None
    for item in objects:
        match item.key.split("/")[1:]:
            case ["delta", day, delta_id, _, *_] if _DAY.fullmatch(day) and layout.time_of(delta_id):
                deltas.setdefault((day, delta_id), []).append(item)
            case ["waiting", _, _]:
                marks.append(item)
            case ["snapshot", "timestamped", version, _, *_] if layout.generation_of(version) is not None:
                snapshots.setdefault(version, []).append(item)
            case ["snapshot", "report", version, _] if layout.generation_of(version) is not None:
                reports.setdefault(version, []).append(item)
            case ["snapshot", "log", name] if _COMMIT.fullmatch(name):
                commits.append(item)
            case ["snapshot", "latest-pointer.txt"]:
                pointer = item
            case ["quarantine", kind, name, _, *_]:
                quarantined.setdefault((kind, name), []).append(item)
            case ["results", day, batch, landing, _] if layout.time_of(landing):
                landings.setdefault((day, batch, landing), []).append(item)
            case ["results", _, _, name] if layout.BATCH_NOTE.fullmatch(name):
                pass
            case ["requests" | "asked", *_, name] if not name.startswith(WRITE_CHECK):
                pass
            case [("delta" | "snapshot") as place, *_]:
                others[place].append(item)
            case _:
                strays.append(item)
    every_delta = [
        StoredDelta(name, layout.deltas(collection, day, name), tuple(items), day)
        for (day, name), items in sorted(deltas.items())
    ]
    every_snapshot = [
        StoredFolder(name, layout.snapshots(collection, name), tuple(items))
        for name, items in sorted(snapshots.items())
    ]
    legacy_deltas, more = _databases(others["delta"])
    legacy_snapshots, yet_more = _databases(others["snapshot"])
    return Inventory(
        collection,
        tuple(delta for delta in every_delta if delta.has(layout.MANIFEST)),
        tuple(delta for delta in every_delta if not delta.has(layout.MANIFEST)),
        legacy_deltas,
        tuple(version for version in every_snapshot if version.has(layout.MANIFEST)),
        tuple(version for version in every_snapshot if not version.has(layout.MANIFEST)),
        legacy_snapshots,
        tuple(StoredFolder(name, layout.report(collection, name), tuple(i)) for name, i in sorted(reports.items())),
        tuple(commits),
        pointer,
        tuple(
            StoredFolder(f"{kind}/{name}", layout.quarantine(collection, kind, name), tuple(items))
            for (kind, name), items in sorted(quarantined.items())
        ),
        tuple(
            StoredFolder(name, layout.results(collection, day) + f"/{batch}/{name}", tuple(items))
            for (day, batch, name), items in sorted(landings.items())
            if not any(item.key.endswith(f"/{layout.MANIFEST}") for item in items)
        ),
        tuple(marks),
        tuple(sorted([*strays, *more, *yet_more], key=lambda item: item.key)),
    )


def _databases(objects: list[StoredObject]) -> tuple[tuple[StoredFolder, ...], list[StoredObject]]:
    """The folders with a ChromaDB database among these objects, and the objects that are in none."""
    roots = {root for item in objects if (root := _root(item.key)) is not None}
    found: dict[str, list[StoredObject]] = {}
    rest = []
    for item in objects:
        folder = item.key.rpartition("/")[0]
        while folder and folder not in roots:
            folder = folder.rpartition("/")[0]
        if folder:
            found.setdefault(folder, []).append(item)
        else:
            rest.append(item)
    folders = [
        StoredFolder(layout.legacy_name(prefix), prefix, tuple(items)) for prefix, items in sorted(found.items())
    ]
    return tuple(folders), rest


def _root(key: str) -> str | None:
    """The folder of the database that a file belongs to: that of the SQLite file, or above that of an index file."""
    folder, _, name = key.rpartition("/")
    if name == SQLITE_FILE:
        return folder
    # Without its SQLite file it is still the ruin of a database, and as such to be noticed.
    return folder.rpartition("/")[0] if name in _INDEX_FILES else None
