"""Removes deltas, by hand or because they are corrupted. Their batches are pending again, and made anew."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from embedding_assets.catalog import CollectionSpec
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.inventory import LEFT_OUT, StoredFolder, adopted_as, list_databases
from embedding_assets.vectorstore.quarantine import delete_database
from embedding_assets.vectorstore.verification import Level, Verdict
from embedding_assets.vectorstore.verify import verify


@dataclass(frozen=True)
class DeltaDeletion:
    """One delta, or folder of legacy data, that is to be deleted, and why."""

    folder: StoredFolder
    reason: str


@dataclass(frozen=True)
class DeltaDeletionPlan:
    """Which deltas would be deleted.

    Attributes:
        collection: whose.
        deletions: those to be deleted.
        kept: key prefix -> why it is kept, of the others that were considered.
        left_out: folders of legacy data that would not be adopted again; they stay as they are.
        unknown: ids that were asked for and are not there.
        level: how thoroughly each is verified once more before it is deleted; None: it was chosen by hand.
    """

    collection: str
    deletions: tuple[DeltaDeletion, ...]
    kept: dict[str, str]
    left_out: tuple[StoredFolder, ...] = ()
    unknown: tuple[str, ...] = ()
    level: Level | None = None

    @property
    def size(self) -> int:
        """Bytes that would be freed."""
        return sum(one.folder.size for one in self.deletions)


def plan_delete_deltas(store: ObjectStore, collection: str, ids: Iterable[str]) -> DeltaDeletionPlan:
    """Delete these deltas, whatever state they are in.

    What a snapshot has of them stays in it until the batches' new deltas take its place. Legacy data that a delta was
    made of stays too, with a mark that it is not to be adopted again.

    Args:
        store, collection: whose.
        ids: of deltas, or names of folders of legacy data.
    """
    inventory = list_databases(store, collection)
    wanted = set(ids)
    there = [*inventory.deltas, *inventory.unfinished_deltas, *inventory.legacy_deltas]
    chosen = [folder for folder in there if folder.name in wanted]
    sources = [f for f in (*inventory.legacy_deltas, *inventory.legacy_snapshots) if adopted_as(f) & wanted]
    return DeltaDeletionPlan(
        collection,
        tuple(DeltaDeletion(folder, "was chosen") for folder in chosen),
        {},
        tuple(folder for folder in sources if folder not in chosen),
        tuple(sorted(wanted - {folder.name for folder in chosen})),
    )


def plan_clean_deltas(
    store: ObjectStore,
    spec: CollectionSpec,
    created_before: datetime,
    *,
    scratch: Path,
    corrupted_only: bool = True,
    level: Level = "quick",
) -> DeltaDeletionPlan:
    """Verify the deltas, legacy folders among them, that the store has had since before a time; delete the corrupted.

    Args:
        store, spec: whose.
        created_before: held against the store's own timestamp of a delta's newest object.
        scratch: an existing folder on a disk with room for twice the largest delta.
        corrupted_only: otherwise the valid ones go as well. Those that cannot be judged just now never do.
        level: how thoroughly.
    """
    inventory = list_databases(store, spec.name)
    deletions, kept = [], {}
    for folder in (*inventory.deltas, *inventory.legacy_deltas):
        if folder.modified >= created_before:
            kept[folder.prefix] = f"is from {folder.modified.isoformat()}"
            continue
        verdict = _judge(store, spec, folder, level, scratch)
        if verdict.kind == "unknown":
            kept[folder.prefix] = f"cannot be judged just now: {verdict.reason}"
        elif verdict.kind == "valid" and corrupted_only:
            kept[folder.prefix] = "is valid"
        else:
            deletions.append(DeltaDeletion(folder, verdict.reason or "is valid, and valid ones were to go as well"))
    return DeltaDeletionPlan(spec.name, tuple(deletions), kept, level=level if corrupted_only else None)


def execute_delete_deltas(
    store: ObjectStore, spec: CollectionSpec, plan: DeltaDeletionPlan, scratch: Path
) -> list[DeltaDeletion]:
    """Delete what the plan says; what was chosen for being corrupted only if it still is. Returns what was deleted."""
    for folder in plan.left_out:
        store.replace(
            f"{folder.prefix}/{LEFT_OUT}", b"its delta was deleted by hand; delete this mark to adopt it again\n"
        )
    done = []
    for one in plan.deletions:
        if plan.level and _judge(store, spec, one.folder, plan.level, scratch).kind != "corrupted":
            continue
        delete_database(store, one.folder.prefix, [item.key for item in store.walk(one.folder.prefix)])
        done.append(one)
    return done


def _judge(store: ObjectStore, spec: CollectionSpec, folder: StoredFolder, level: Level, scratch: Path) -> Verdict:
    manifest = f"{folder.prefix}/manifest.json"
    what = manifest if manifest in folder.keys else folder.prefix
    return verify(store, what, spec, level=level, scratch=scratch).verdict
