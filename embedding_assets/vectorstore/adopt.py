"""Legacy data: plain ChromaDB folders without a manifest become regular deltas, once they have passed a full check.

A folder that is whole is copied, record by record, into a delta of its own; the folder itself stays where its readers
look for it, with a mark that names the delta. Nothing is known of the batches that its records came from, so they get
no reserved metadata, and any record of a known batch wins over them. A folder that is corrupted goes to the quarantine.
One that cannot be judged, or is of another dimension than declared, is left as it is, and said to be.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.child import MergeFailedError
from embedding_assets.chroma.spec import Source
from embedding_assets.errors import CorruptedError, StoreError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.delta import write_delta
from embedding_assets.vectorstore.inventory import ADOPTED, StoredFolder, list_databases
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.quarantine import EntryKind, QuarantineReport, execute_quarantine, plan_quarantine
from embedding_assets.vectorstore.verification import Verdict, Verification
from embedding_assets.vectorstore.verify import verify


@dataclass(frozen=True)
class AdoptionPlan:
    """What would become of legacy data.

    Attributes:
        collection: whose.
        folders: the folders that no delta stands for, the newest first.
        verdicts: by key prefix; `valid` is adopted, `corrupted` moved aside, `unknown` left.
    """

    collection: str
    folders: tuple[StoredFolder, ...]
    verdicts: dict[str, Verdict]


@dataclass(frozen=True)
class Adoption:
    """What became of one legacy folder.

    Attributes:
        folder: its key prefix.
        action: what was done.
        reason: why, where it was not adopted.
        delta: the manifest of the delta that stands for it now.
        report: where it was moved aside.
    """

    folder: str
    action: Literal["adopted", "quarantined", "left"]
    reason: str = ""
    delta: Manifest | None = None
    report: QuarantineReport | None = None


def plan_adoption(store: ObjectStore, spec: CollectionSpec, scratch: Path) -> AdoptionPlan:
    """Check every legacy folder that no delta stands for; changes nothing.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    folders = list_databases(store, spec.name).waiting_legacy()
    verdicts = {folder.prefix: _judge(store, spec, folder, scratch, keep_copy=False).verdict for folder in folders}
    return AdoptionPlan(spec.name, tuple(folders), verdicts)


def execute_adoption(
    store: ObjectStore, spec: CollectionSpec, plan: AdoptionPlan, *, run_id: str, scratch: Path
) -> list[Adoption]:
    """Adopt what is whole, move aside what is corrupted; each is checked once more before."""
    return adopt_folders(store, spec, plan.folders, run_id=run_id, scratch=scratch)


def adopt_folders(
    store: ObjectStore, spec: CollectionSpec, folders: Sequence[StoredFolder], *, run_id: str, scratch: Path
) -> list[Adoption]:
    """Adopt these legacy folders, or move them aside.

    Of snapshots only the newest that is whole is adopted: the older ones hold less.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    done: list[Adoption] = []
    snapshot_adopted = False
    for folder in folders:
        kind = _kind(folder)
        if kind == "snapshot" and snapshot_adopted:
            done.append(Adoption(folder.prefix, "left", "a newer snapshot was adopted"))
            continue
        done.append(_adopt(store, spec, folder, kind, run_id, scratch))
        snapshot_adopted |= kind == "snapshot" and done[-1].action == "adopted"
    return done


def _adopt(
    store: ObjectStore, spec: CollectionSpec, folder: StoredFolder, kind: EntryKind, run_id: str, scratch: Path
) -> Adoption:
    found = _judge(store, spec, folder, scratch, keep_copy=True)
    try:
        if found.verdict.kind == "corrupted":
            plan = plan_quarantine(store, spec.name, kind, folder.name, folder.prefix, found.verdict, run_id)
            report = execute_quarantine(store, plan)
            return Adoption(folder.prefix, "quarantined", found.verdict.reason, report=report)
        if found.verdict.kind == "unknown":
            remedy = f". {found.cause.remedy}" if found.cause else ""
            return Adoption(folder.prefix, "left", f"{found.verdict.reason}{remedy}")
        if not found.count or found.examination is None or found.copy is None:
            return Adoption(folder.prefix, "left", "it holds no records")
        source = Source(found.copy, folder.name, collection=found.examination.collections[0])
        day = layout.day_of(folder.modified.timestamp())
        delta = write_delta(
            store, spec, day, layout.new_id(), [source], records=found.count, run_id=run_id, scratch=scratch
        )
        store.put_new(f"{folder.prefix}/{ADOPTED}{delta.id}", b"")
        return Adoption(folder.prefix, "adopted", delta=delta)
    except (MergeFailedError, CorruptedError) as error:
        # It has passed the check, so this is no proof against it.
        return Adoption(folder.prefix, "left", f"no delta could be made of it: {error.reason}")
    finally:
        if found.copy is not None:
            shutil.rmtree(found.copy.parent, ignore_errors=True)


def _judge(
    store: ObjectStore, spec: CollectionSpec, folder: StoredFolder, scratch: Path, *, keep_copy: bool
) -> Verification:
    found = verify(store, folder.prefix, spec, level="full", scratch=scratch, keep_copy=keep_copy)
    if isinstance(found.cause, StoreError):
        raise found.cause
    return found


def _kind(folder: StoredFolder) -> EntryKind:
    return "delta" if folder.prefix.split("/")[1] == "delta" else "snapshot"
