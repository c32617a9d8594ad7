"""What an operator does with snapshots by hand: delete them, roll back to an older one, rebuild from all deltas.

The log is only ever appended to: each of these begins with a commit, and deletes, if at all, after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedding_assets.errors import CommitConflictError, CorruptedError, ObjectMissingError
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import (
    Commit,
    history,
    load_snapshot,
    log_end,
    repair_pointer,
    try_commit,
    try_reset,
)
from embedding_assets.vectorstore.contents import verify_database
from embedding_assets.vectorstore.inventory import StoredFolder, list_databases
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.quarantine import delete_database


@dataclass(frozen=True)
class SnapshotDeletionPlan:
    """What deleting the snapshots would do. All deltas stay, and the next compaction merges them all.

    Attributes:
        collection: whose.
        generation: the log's entry that would say so, before anything is deleted.
        current: the version that is current until then; None where there is none.
        folders: the versions and folders of older systems that would be deleted.
        pointer: whether there is a pointer to be deleted.
    """

    collection: str
    generation: int
    current: str | None
    folders: tuple[StoredFolder, ...]
    pointer: bool

    @property
    def size(self) -> int:
        """Bytes that would be freed."""
        return sum(folder.size for folder in self.folders)


def plan_delete_snapshots(store: ObjectStore, collection: str, *, timestamped: bool) -> SnapshotDeletionPlan:
    """Delete the pointer and `latest/`, and force a rebuild.

    Args:
        store, collection: whose.
        timestamped: delete all versions as well.
    """
    end = log_end(store, collection)
    inventory = list_databases(store, collection)
    latest = f"{collection}/snapshot/latest"
    folders: list[StoredFolder] = []
    for folder in inventory.legacy_snapshots:
        if timestamped or folder.prefix == latest or folder.prefix.startswith(f"{latest}/"):
            folders.append(folder)
    if timestamped:
        folders += [*inventory.snapshots, *inventory.unfinished_snapshots]
    return SnapshotDeletionPlan(
        collection,
        end.generation + 1,
        end.head.version if end.head else None,
        tuple(folders),
        inventory.pointer is not None,
    )


def execute_delete_snapshots(store: ObjectStore, plan: SnapshotDeletionPlan, *, run_id: str) -> SnapshotDeletionPlan:
    """Delete them: first the log says that nothing before counts, then the pointer goes, then the files.

    Raises:
        CommitConflictError: there is a newer snapshot than when it was planned; nothing was deleted.
    """
    end = log_end(store, plan.collection)
    if end.generation == plan.generation and end.head is None:
        pass  # this very plan was begun before
    elif end.generation + 1 != plan.generation or not try_reset(store, plan.collection, plan.generation, run_id):
        raise _moved_on(plan.collection)
    repair_pointer(store, plan.collection)
    for folder in plan.folders:
        delete_database(store, folder.prefix, folder.keys)
    return plan


@dataclass(frozen=True)
class RollbackPlan:
    """Which version would be current again.

    Attributes:
        collection: whose.
        generation: the log's entry that would say so.
        manifest: of the version that would be current.
        current: the version that is.
        dropped: deltas that the current version holds and the older one lacks; the next compaction merges them again.
    """

    collection: str
    generation: int
    manifest: Manifest
    current: str | None
    dropped: tuple[str, ...]


def plan_rollback(store: ObjectStore, collection: str, version: str) -> RollbackPlan:
    """Make an older version the current one, after reading it back to the last byte.

    Raises:
        ObjectMissingError: the log knows no such version, or not any more.
        CorruptedError: it is not whole.
    """
    end = log_end(store, collection)
    commit = next(history(store, collection, [version]), None)
    if commit is None:
        raise ObjectMissingError(
            f"snapshot {version} of {collection}", "is not in the log", "Look at the versions with `snapshots list`."
        )
    manifest = load_snapshot(store, collection, commit)
    verify_database(store, manifest)
    return RollbackPlan(
        collection,
        end.generation + 1,
        manifest,
        end.head.version if end.head else None,
        tuple(sorted(_deltas_of(store, collection, end.head) - set(manifest.deltas))),
    )


def execute_rollback(store: ObjectStore, plan: RollbackPlan, *, run_id: str) -> Manifest:
    """Commit the older version as the next generation.

    Raises:
        CommitConflictError: there is a newer snapshot than when it was planned; nothing was changed.
        CorruptedError: it is not whole any more.
    """
    end = log_end(store, plan.collection)
    done = end.generation == plan.generation and end.head is not None and end.head.version == plan.manifest.id
    if not done:
        verify_database(store, plan.manifest)
        if end.generation + 1 != plan.generation or not try_commit(store, plan.manifest, (), plan.generation, run_id):
            raise _moved_on(plan.collection)
    repair_pointer(store, plan.collection)
    return plan.manifest


def _deltas_of(store: ObjectStore, collection: str, commit: Commit | None) -> set[str]:
    try:
        return set(load_snapshot(store, collection, commit).deltas) if commit else set()
    except CorruptedError:
        return set()


def _moved_on(collection: str) -> CommitConflictError:
    return CommitConflictError(
        f"snapshot of {collection}", "another writer committed since this was planned", "Plan it again."
    )
