"""Says what a compaction would do, as far as listings and manifests tell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from embedding_assets.catalog import CollectionSpec
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.bases import bases
from embedding_assets.vectorstore.commit import log_end, pointer_is_behind
from embedding_assets.vectorstore.delta import DeltaRef
from embedding_assets.vectorstore.gather import look_for_missing
from embedding_assets.vectorstore.inventory import StoredFolder
from embedding_assets.vectorstore.kinds import SetAside, collection_kind, sort_out
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.transfer import incomplete


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
        resharded: whether the declared number of shards is another than that of the base.
        aside: the committed deltas of another kind than the collection's, which nothing waits for.
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
    resharded: bool = False
    aside: tuple[SetAside, ...] = ()
    due: bool = False


def plan_compaction(
    store: ObjectStore,
    spec: CollectionSpec,
    *,
    rebuild: bool = False,
    every_delta: bool = False,
) -> CompactionPlan:
    """Compare the newest snapshot that seems whole with the committed deltas; reads no database.

    Args:
        store, spec: whose.
        rebuild: plan to start from nothing.
        every_delta: look at all deltas and folders there are, and not only at what is marked as waiting.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    collection = spec.name
    end = log_end(store, collection)
    manifest, problems, generation = None, [], end.generation + 1
    for base in [] if rebuild else bases(store, collection, end):
        problem = base.problem or incomplete(store, base.manifest)
        if problem:
            problems.append(f"snapshot {base.version}: {problem}")
            continue
        manifest, generation = base.manifest, max(generation, base.commit.generation + 1)
        break
    inventory = look_for_missing(store, collection, end, manifest, every_delta=every_delta)
    known = set(manifest.deltas) if manifest else set()
    lacking = sorted(d.ref(collection) for d in inventory.deltas if d.name not in known)
    missing, aside = sort_out(store, lacking, collection_kind(store, spec, end, manifest)) if lacking else ((), ())
    legacy = tuple(inventory.waiting_legacy(known))
    current = manifest is not None and end.head is not None and end.head.version == manifest.id
    behind = pointer_is_behind(store, collection, end)
    resharded = manifest is not None and len(manifest.parts) != spec.shards
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
        resharded,
        aside,
        due=bool(missing)
        or behind
        or end.lost
        or resharded
        or (manifest is not None and not current)
        or any(last is None or folder.modified > last for folder in legacy),
    )
