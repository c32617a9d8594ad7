"""Compaction: the current snapshot and the deltas that it lacks become the next snapshot; what is damaged is healed.

Whatever of it is damaged goes to the quarantine: a delta is left out, and its batches are pending again; in the place
of the current snapshot steps the newest older one that is whole, or nothing, and the deltas since are merged again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.child import MergeFailedError, merge_in_child
from embedding_assets.chroma.reports import Examination, MergeReport
from embedding_assets.chroma.spec import DatabaseSpec
from embedding_assets.errors import CommitConflictError, ConfigurationError, CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.adopt import Adoption, adopt_folders
from embedding_assets.vectorstore.bases import bases
from embedding_assets.vectorstore.cache import Cache
from embedding_assets.vectorstore.commit import log_end, pointer_is_behind, repair_pointer, try_commit
from embedding_assets.vectorstore.delta import DeltaRef
from embedding_assets.vectorstore.gather import (
    Damage,
    Gathered,
    find_culprits,
    gather,
    look_for_missing,
    move_aside,
)
from embedding_assets.vectorstore.inventory import StoredFolder
from embedding_assets.vectorstore.manifest import Manifest, describe_files
from embedding_assets.vectorstore.marks import unmark
from embedding_assets.vectorstore.publish import discard, prove, publish
from embedding_assets.vectorstore.transfer import NO_TRAFFIC, Traffic, verify_files

TRIES = 5  # how often a lost commit is started again

Log = Callable[[str], None]


@dataclass(frozen=True)
class CompactionPlan:
    """What a compaction would do, as far as listings and manifests tell.

    Attributes:
        collection: whose.
        base: the snapshot that it starts from; None: it starts from nothing.
        missing: the committed deltas that the base lacks, by id.
        generation: the generation that it would commit.
        problems: what is wrong with the current snapshot, and with older ones that cannot take its place.
        legacy: folders of legacy data that would be checked, and adopted or moved aside.
        rebuild: whether it starts from nothing because that was asked for.
        current: whether the base is the current snapshot, and not one that has to take its place.
        behind: whether the pointer does not name the current snapshot, as readers of older systems need it to.
        due: whether there is anything to do. Legacy data that was there at the last commit was looked at then, and
            asks for no further look until there is something else to do.
    """

    collection: str
    base: Manifest | None
    missing: tuple[DeltaRef, ...]
    generation: int
    problems: tuple[str, ...] = ()
    legacy: tuple[StoredFolder, ...] = ()
    rebuild: bool = False
    current: bool = False
    behind: bool = False
    due: bool = False


@dataclass(frozen=True)
class Compaction:
    """What a compaction did.

    Attributes:
        manifest: the current snapshot, new or not; None where all that there was turned out damaged.
        merged: what was merged; None where the snapshot lacked nothing.
        deltas: manifests of the deltas that were merged.
        lost_races: how often another writer's commit came first.
        base: the version that it was made from; None: from nothing.
        damages: what turned out corrupted and was moved aside, with the reasons.
        adoptions: what became of legacy data.
        traffic: what was moved over the network for it, and what the cache spared.
        examined: what the proof of the new snapshot found: recall, duplicates and so on.
    """

    manifest: Manifest | None
    merged: MergeReport | None
    deltas: tuple[Manifest, ...] = ()
    lost_races: int = 0
    base: str | None = None
    damages: tuple[Damage, ...] = ()
    adoptions: tuple[Adoption, ...] = ()
    traffic: Traffic = NO_TRAFFIC
    examined: Examination | None = None


def plan_compaction(
    store: ObjectStore, collection: str, *, rebuild: bool = False, every_delta: bool = False
) -> CompactionPlan:
    """Compare the newest snapshot that seems whole with the committed deltas; reads no database.

    Args:
        store, collection: whose.
        rebuild: plan to start from nothing.
        every_delta: look at all deltas and folders there are, and not only at what is marked as waiting.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    end = log_end(store, collection)
    manifest, problems, generation = None, [], end.generation + 1
    for base in [] if rebuild else bases(store, collection, end):
        problem = base.problem or _incomplete(store, base.manifest)
        if problem:
            problems.append(f"snapshot {base.version}: {problem}")
            continue
        manifest, generation = base.manifest, max(generation, base.commit.generation + 1)
        break
    inventory = look_for_missing(store, collection, end, manifest, every_delta=every_delta)
    known = set(manifest.deltas) if manifest else set()
    missing = tuple(sorted(d.ref(collection) for d in inventory.deltas if d.name not in known))
    legacy = tuple(inventory.waiting_legacy(known))
    current = manifest is not None and end.head is not None and end.head.version == manifest.id
    behind = pointer_is_behind(store, collection, end)
    last = datetime.fromisoformat(end.head.committed_at) if end.head else None
    return CompactionPlan(
        collection,
        manifest,
        missing,
        generation,
        tuple(problems),
        legacy,
        rebuild,
        current,
        behind,
        due=bool(missing)
        or behind
        or (manifest is not None and not current)
        or any(last is None or folder.modified > last for folder in legacy),
    )


def compact(
    store: ObjectStore,
    spec: CollectionSpec,
    *,
    run_id: str,
    scratch: Path,
    log: Log = lambda message: None,
    rebuild: bool = False,
    every_delta: bool = False,
    cache_folder: Path | None = None,
) -> Compaction | None:
    """Bring a collection's snapshot up to date with its committed deltas; heal it where it is damaged.

    Args:
        store: where everything is.
        spec: the collection.
        run_id: who does it.
        scratch: an existing folder on a disk with room for two snapshots; left empty.
        log: told what is done.
        rebuild: start from nothing and merge all deltas; until that is committed, the current snapshot stays.
        every_delta: look for what the snapshot lacks among all deltas, whether or not they are marked as waiting.
        cache_folder: where copies of snapshots are kept on this machine: the current one is taken from there, as far
            as its files still are what they should be, and the new one is left there.

    Returns:
        None where there is neither a snapshot nor a delta.

    Raises:
        CommitConflictError: five other commits came first; the snapshot is theirs, and whole.
        StoreError: something could not be read just now; nothing of it was moved.
    """
    damages: list[Damage] = []
    adoptions: list[Adoption] = []
    cache = Cache(cache_folder, store, spec.name) if cache_folder else None
    traffic = NO_TRAFFIC
    lost = 0
    while lost < TRIES:
        plan = plan_compaction(store, spec.name, rebuild=rebuild, every_delta=every_delta)
        if not adoptions and plan.legacy:
            adoptions += adopt_folders(store, spec, plan.legacy, run_id=run_id, scratch=scratch)
            for one in adoptions:
                log(f"legacy data in {one.folder}: {one.action} {one.reason}".rstrip())
            plan = plan_compaction(store, spec.name, rebuild=rebuild, every_delta=every_delta)
        if plan.base and plan.current and not plan.missing:
            # Read to its last byte: whoever asks for a compaction that nothing is due for wants to know, or to heal.
            problem = _damage_of(store, plan.base)
            if not problem:
                repair_pointer(store, spec.name)
                unmark(store, spec.name, plan.base.deltas)
                return Compaction(plan.base, None, (), lost, plan.base.id, tuple(damages), tuple(adoptions))
            log(f"snapshot {plan.base.id} is to be made again: {problem}")
        with _folder(scratch) as work:
            gathered = gather(store, spec.name, work, from_nothing=rebuild, every_delta=every_delta, cache=cache)
            traffic += gathered.traffic
            if gathered.damages:
                moved = move_aside(store, spec.name, gathered.damages, gathered.end, run_id)
                for damage in moved:
                    log(f"{damage.kind} {damage.name} is corrupted and was moved aside: {damage.reason}")
                damages += moved
                if len(moved) < len(gathered.damages):
                    lost += 1  # another writer was faster; what seemed damaged may just have been cleaned up
                    continue
            if gathered.base is None and not gathered.deltas:
                return Compaction(None, None, (), lost, None, tuple(damages), tuple(adoptions)) if damages else None
            try:
                done = _merge_and_commit(store, spec, gathered, run_id, work, log, cache)
            except (MergeFailedError, CorruptedError):
                culprits = find_culprits(store, spec, gathered, work)
                if not culprits:
                    raise
                damages += move_aside(store, spec.name, culprits, gathered.end, run_id)
                continue
        if done:
            base = gathered.base.id if gathered.base else None
            traffic += Traffic(uploaded=done[0].size)
            deltas = tuple(gathered.deltas)
            manifest, merged, examined = done
            return Compaction(manifest, merged, deltas, lost, base, tuple(damages), tuple(adoptions), traffic, examined)
        lost += 1
        log(f"another writer committed generation {gathered.generation} first; starting again from its snapshot")
    raise CommitConflictError(
        f"snapshot of {spec.name}", f"{TRIES} other commits came first", "Theirs are whole; the next run goes on."
    )


def _merge_and_commit(
    store: ObjectStore,
    spec: CollectionSpec,
    gathered: Gathered,
    run_id: str,
    work: Path,
    log: Log,
    cache: Cache | None,
) -> tuple[Manifest, MergeReport, Examination] | None:
    """The one merge; None where another writer's commit came first."""
    base, deltas = gathered.base, gathered.deltas
    for manifest in [*([base] if base else []), *deltas]:
        _require_same_kind(manifest, spec)
    records = (base.count if base else 0) + sum(manifest.count for manifest in deltas)
    log(f"merging {len(deltas)} deltas into {base.id if base else 'nothing'}: {records} records")

    folder = gathered.base_folder or work / "snapshot"
    database = DatabaseSpec(spec.name, spec.dimensions, spec.distance)
    merged = merge_in_child(folder, database, gathered.sources, records=records)
    version = layout.new_version(gathered.generation)
    sources = [*([gathered.base_source] if gathered.base_source else []), *gathered.sources]
    examined = prove(folder, database, sources, records=2 * records, subject=f"new snapshot {version} of {spec.name}")
    log(f"proved: {examined.count} records, each as in the source that won it")
    manifest = Manifest(
        kind="snapshot",
        id=version,
        collection=spec.name,
        model=spec.model,
        dimension=spec.dimensions,
        distance=spec.distance,
        count=examined.count,
        digest=examined.digest,
        files=describe_files(folder),
        created_at=layout.now().isoformat(),
        run_id=run_id,
        chromadb_version=merged.chromadb_version,
        generation=gathered.generation,
        parent=base.id if base else None,
        deltas=tuple(sorted([*(base.deltas if base else ()), *(d.id for d in deltas)])),
    )
    publish(store, manifest, folder)
    if not try_commit(store, manifest, tuple(d.id for d in deltas), marked=True):
        discard(store, manifest)
        return None
    if cache:
        cache.keep(version, folder)
    repair_pointer(store, spec.name)
    unmark(store, spec.name, manifest.deltas)
    log(f"committed {version}")
    return manifest, merged, examined


class _folder:
    """A new folder below another one, which goes when the block ends."""

    def __init__(self, parent: Path) -> None:
        self.path = parent / layout.new_id()

    def __enter__(self) -> Path:
        self.path.mkdir()
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _damage_of(store: ObjectStore, manifest: Manifest) -> str:
    """What is wrong with a snapshot that seemed whole."""
    try:
        verify_files(store, manifest)
    except CorruptedError as error:
        return error.reason
    return ""


def _incomplete(store: ObjectStore, manifest: Manifest | None) -> str:
    """What the listing alone says against a snapshot: files that are missing, or of another size."""
    assert manifest is not None  # noqa: S101  (without one there is a problem, and nothing is asked here)
    there = {item.key: item.size for item in store.walk(manifest.folder)}
    for entry in manifest.files:
        size = there.get(f"{manifest.folder}/{entry.path}")
        if size != entry.size:
            return f"the file {entry.path} " + ("is missing" if size is None else f"has {size} bytes")
    return ""


def _require_same_kind(manifest: Manifest, spec: CollectionSpec) -> None:
    """Vectors of two models, dimensions or distances in one index would make every answer of it wrong."""
    has = (manifest.model, manifest.dimension, manifest.distance)
    declared = (spec.model, spec.dimensions, spec.distance)
    if has != declared:
        raise ConfigurationError(
            f"{manifest.kind} {manifest.id} of {manifest.collection}",
            f"was made with {has[0]}, {has[1]} dimensions, {has[2]}; declared is {declared[0]}, {declared[1]}, "
            f"{declared[2]}",
            "Declare a new collection for the new model: vectors of two models cannot be searched together.",
        )
