"""Compaction: the current snapshot and the deltas that it lacks become the next snapshot."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.child import merge_in_child
from embedding_assets.chroma.reports import MergeReport
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.errors import CommitConflictError, ConfigurationError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import head, load_snapshot, repair_pointer, try_commit
from embedding_assets.vectorstore.delta import DeltaRef, list_deltas, load_deltas
from embedding_assets.vectorstore.manifest import Manifest, describe_files
from embedding_assets.vectorstore.publish import discard, prove, publish
from embedding_assets.vectorstore.transfer import download_files

TRIES = 5  # how often a lost commit is started again


@dataclass(frozen=True)
class CompactionPlan:
    """What a compaction would do.

    Attributes:
        collection: whose.
        base: the current snapshot; None: it starts from nothing.
        missing: the committed deltas that it lacks, by id.
    """

    collection: str
    base: Manifest | None
    missing: tuple[DeltaRef, ...]

    @property
    def generation(self) -> int:
        """The generation that it would commit."""
        return (self.base.generation or 0) + 1 if self.base else 1


@dataclass(frozen=True)
class Compaction:
    """What a compaction did.

    Attributes:
        manifest: the current snapshot, new or not.
        merged: what was merged; None where the snapshot lacked nothing.
        deltas: manifests of the deltas that were merged.
        lost_races: how often another writer's commit came first.
    """

    manifest: Manifest
    merged: MergeReport | None
    deltas: tuple[Manifest, ...] = ()
    lost_races: int = 0


def plan_compaction(store: ObjectStore, collection: str) -> CompactionPlan:
    """Compare the current snapshot with the committed deltas."""
    commit = head(store, collection)
    base = load_snapshot(store, collection, commit) if commit else None
    known = set(base.deltas) if base else set()
    return CompactionPlan(collection, base, tuple(ref for ref in list_deltas(store, collection) if ref.id not in known))


def compact(
    store: ObjectStore,
    spec: CollectionSpec,
    *,
    run_id: str,
    scratch: Path,
    log: Callable[[str], None] = lambda message: None,
) -> Compaction | None:
    """Bring a collection's snapshot up to date with its committed deltas.

    Args:
        store: where everything is.
        spec: the collection.
        run_id: who does it.
        scratch: an existing folder on a disk with room for two snapshots; left empty.
        log: told what is done.

    Returns:
        None where there is neither a snapshot nor a delta.

    Raises:
        CommitConflictError: five other commits came first; the snapshot is theirs, and whole.
        CorruptedError: the base or a delta is not what its manifest says.
    """
    for lost in range(TRIES):
        plan = plan_compaction(store, spec.name)
        if not plan.missing:
            repair_pointer(store, spec.name)
            return Compaction(plan.base, None, lost_races=lost) if plan.base else None
        work = scratch / layout.new_id()
        work.mkdir()
        try:
            done = _merge_and_commit(store, spec, plan, run_id, work, log, lost)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if done:
            return done
        log(f"another writer committed generation {plan.generation} first; starting again from its snapshot")
    raise CommitConflictError(
        f"snapshot of {spec.name}", f"{TRIES} other commits came first", "Theirs are whole; the next run goes on."
    )


def _merge_and_commit(
    store: ObjectStore,
    spec: CollectionSpec,
    plan: CompactionPlan,
    run_id: str,
    work: Path,
    log: Callable[[str], None],
    lost: int,
) -> Compaction | None:
    deltas = load_deltas(store, plan.missing)
    for manifest in [*([plan.base] if plan.base else []), *deltas]:
        _require_same_kind(manifest, spec)

    sources = []
    for manifest in deltas:
        download_files(store, manifest, work / "deltas" / manifest.id)
        sources.append(Source(work / "deltas" / manifest.id, manifest.id))
    folder = work / "snapshot"
    before = []
    if plan.base:
        download_files(store, plan.base, folder)
        shutil.copytree(folder, work / "base")
        before = [Source(work / "base", plan.base.id)]
    records = (plan.base.count if plan.base else 0) + sum(manifest.count for manifest in deltas)
    log(f"merging {len(deltas)} deltas into {plan.base.id if plan.base else 'nothing'}: {records} records")

    database = DatabaseSpec(spec.name, spec.dimensions, spec.distance)
    merged = merge_in_child(folder, database, sources, records=records)
    version = layout.new_version(plan.generation)
    examined = prove(
        folder, database, [*before, *sources], records=2 * records, subject=f"new snapshot {version} of {spec.name}"
    )
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
        generation=plan.generation,
        parent=plan.base.id if plan.base else None,
        deltas=tuple(sorted([*(plan.base.deltas if plan.base else ()), *(d.id for d in deltas)])),
    )
    publish(store, manifest, folder)
    if not try_commit(store, manifest, tuple(d.id for d in deltas)):
        discard(store, manifest)
        return None
    repair_pointer(store, spec.name)
    log(f"committed {version}")
    return Compaction(manifest, merged, tuple(deltas), lost)


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
