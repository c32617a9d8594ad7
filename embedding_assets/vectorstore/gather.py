"""Brings together what a compaction merges, checked to the last byte; notes what is damaged and moves nothing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.spec import Source
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.bases import bases
from embedding_assets.vectorstore.cache import Cache
from embedding_assets.vectorstore.commit import LogEnd, log_end
from embedding_assets.vectorstore.delta import DeltaRef
from embedding_assets.vectorstore.inventory import Inventory, list_databases, list_missing
from embedding_assets.vectorstore.manifest import Manifest, load_manifest
from embedding_assets.vectorstore.quarantine import EntryKind, execute_quarantine, plan_quarantine
from embedding_assets.vectorstore.transfer import NO_TRAFFIC, Traffic, at_once, copy_folder, download_files
from embedding_assets.vectorstore.verification import Verdict
from embedding_assets.vectorstore.verify import verify


@dataclass(frozen=True)
class Damage:
    """A database that turned out corrupted.

    Attributes:
        kind, name, folder: which, and where it was.
        reason: what is wrong with it.
        moved: whether its files were moved to the quarantine; otherwise nothing was there any more.
    """

    kind: EntryKind
    name: str
    folder: str
    reason: str
    moved: bool = False


@dataclass
class Gathered:
    """What a compaction works with.

    Attributes:
        end: the last generation that was taken when it was looked at.
        generation: the one to be committed.
        base: the snapshot to start from; None: from nothing.
        base_folder: its files; the merge may change them.
        base_source: another copy, which stays as it is, for the proof.
        deltas: manifests of what is merged, in order; their files lie in `sources`.
        damages: what cannot be used, and why.
        traffic: what it took to bring all this here.
    """

    end: int
    generation: int
    base: Manifest | None = None
    base_folder: Path | None = None
    base_source: Source | None = None
    deltas: list[Manifest] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    traffic: Traffic = NO_TRAFFIC


def gather(
    store: ObjectStore,
    collection: str,
    work: Path,
    *,
    from_nothing: bool = False,
    every_delta: bool = False,
    cache: Cache | None = None,
) -> Gathered:
    """Download the newest whole snapshot, and every committed delta that it lacks and that is whole.

    Args:
        store, collection: whose.
        work: an empty folder on a disk with room for two snapshots and the deltas.
        from_nothing: merge all deltas, whatever snapshots there are.
        every_delta: look at all deltas for those that it lacks, whether or not they have marks.
        cache: where the snapshot may be on this machine.

    Raises:
        StoreError: something could not be read just now; that says nothing of it.
    """
    end = log_end(store, collection)
    found = Gathered(end.generation, end.generation + 1)
    for base in [] if from_nothing else bases(store, collection, end):
        folder = work / "base"
        try:
            if base.manifest is None:
                raise CorruptedError(base.version, base.problem, "")
            nearby = cache.places(base.version) if cache else ()
            found.traffic += download_files(store, base.manifest, folder, nearby)
        except CorruptedError as error:
            place = layout.snapshots(collection, base.version)
            found.damages.append(Damage("snapshot", base.version, place, error.reason))
            shutil.rmtree(folder, ignore_errors=True)
            continue
        found.base, found.base_source = base.manifest, Source(folder, base.version)
        found.base_folder = copy_folder(folder, work / "snapshot")
        # Where the log is lost, the version may be of a later generation than the log's end.
        found.generation = max(found.generation, base.commit.generation + 1)
        break
    inside = set(found.base.deltas) if found.base else set()
    inventory = look_for_missing(store, collection, end, found.base, every_delta=every_delta)
    refs = [d.ref(collection) for d in inventory.deltas if d.name not in inside]
    for fetched in at_once(lambda ref: _fetch(store, ref, work / "deltas" / ref.id), refs):
        if isinstance(fetched, Damage):
            found.damages.append(fetched)
        elif fetched:
            manifest, traffic = fetched
            found.deltas.append(manifest)
            found.sources.append(Source(work / "deltas" / manifest.id, manifest.id))
            found.traffic += traffic
    return found


def look_for_missing(
    store: ObjectStore, collection: str, end: LogEnd, base: Manifest | None, *, every_delta: bool = False
) -> Inventory:
    """An inventory with at least the committed deltas that a base lacks, by their marks where these can be relied on.

    Args:
        store, collection, base: whose.
        end: of the log, as it was when the base was chosen, so that a delta that is compacted meanwhile loses the race
            for the next generation, and not its mark alone.
        every_delta: list all that there is.
    """
    current = base is not None and end.head is not None and end.head.version == base.id
    if base is not None and current and end.marked and not every_delta:
        return list_missing(store, collection, base.deltas)
    return list_databases(store, collection)


def find_culprits(store: ObjectStore, spec: CollectionSpec, gathered: Gathered, scratch: Path) -> list[Damage]:
    """Which of the gathered databases are corrupted although every byte of them is as their manifests say."""
    culprits = []
    for manifest in [*([gathered.base] if gathered.base else []), *gathered.deltas]:
        verdict = verify(store, manifest.key, spec, level="full", scratch=scratch).verdict
        if verdict.kind == "corrupted" and store.exists(manifest.key):
            culprits.append(Damage(manifest.kind, manifest.id, manifest.folder, verdict.reason))
    return culprits


def move_aside(store: ObjectStore, collection: str, damages: list[Damage], end: int, run_id: str) -> list[Damage]:
    """Move damaged databases to the quarantine.

    Snapshots only while the log still ends where it did when they were read: old versions may be deleted as soon as
    there is a newer one, and what is being deleted looks damaged.

    Returns:
        The damages, with what became of them; those of snapshots left out where the log has moved on.
    """
    done = []
    for damage in damages:
        if damage.kind == "snapshot" and log_end(store, collection).generation != end:
            continue
        verdict = Verdict("corrupted", damage.reason)
        plan = plan_quarantine(store, collection, damage.kind, damage.name, damage.folder, verdict, run_id)
        moved = execute_quarantine(store, plan) is not None
        done.append(Damage(damage.kind, damage.name, damage.folder, damage.reason, moved))
    return done


def _fetch(store: ObjectStore, ref: DeltaRef, folder: Path) -> tuple[Manifest, Traffic] | Damage | None:
    """A delta's manifest, its files in the folder; or what is wrong with it; None where it is gone."""
    try:
        manifest = load_manifest(store, ref.key)
        return manifest, download_files(store, manifest, folder)
    except ObjectMissingError:
        return None
    except CorruptedError as error:
        shutil.rmtree(folder, ignore_errors=True)
        # Whoever deletes a delta or moves it aside takes its manifest first; then it is nobody's damage.
        if not store.exists(ref.key):
            return None
        return Damage("delta", ref.id, ref.key.rpartition("/")[0], error.reason)
