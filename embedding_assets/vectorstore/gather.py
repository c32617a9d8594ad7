"""Brings together what a shard is made of, checked to the last byte; notes what is damaged and moves nothing."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.spec import Source
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.bases import Base, bases
from embedding_assets.vectorstore.cache import Cache
from embedding_assets.vectorstore.commit import LogEnd, log_end
from embedding_assets.vectorstore.contents import download_database
from embedding_assets.vectorstore.damage import Damage
from embedding_assets.vectorstore.delta import DeltaRef
from embedding_assets.vectorstore.draft import Draft
from embedding_assets.vectorstore.inventory import Inventory, list_databases, list_missing
from embedding_assets.vectorstore.kinds import sort_out
from embedding_assets.vectorstore.manifest import Manifest, load_manifest
from embedding_assets.vectorstore.transfer import NO_TRAFFIC, Traffic, at_once
from embedding_assets.vectorstore.verify import verify

# A delta's manifest and what it took to bring its files here; what is wrong with it; None where it is gone.
Fetched: TypeAlias = tuple[Manifest, Traffic] | Damage | None


@dataclass
class Gathered:
    """What a shard is made of.

    Attributes:
        base: the version to start from; None: nothing.
        own: the shard of that version whose copy is added to; None where there is none, or it has no records.
        folder: where the shard is to be made; `own` is there already, and the merge may change it.
        deltas: manifests of what is merged, in order.
        sources: their records, behind those of other shards of the base, where it has another number of them.
        proof: all that the shard is made of, as it was.
        damages: what cannot be used, and why.
        traffic: what it took to bring all this here.
    """

    folder: Path
    base: Manifest | None = None
    own: Manifest | None = None
    deltas: list[Manifest] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    proof: list[Source] = field(default_factory=list)
    parents: list[Manifest] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    traffic: Traffic = NO_TRAFFIC

    @property
    def records(self) -> int:
        """At most so many are merged, or are there already."""
        return sum(manifest.count for manifest in (*self.parents, *self.deltas))


def gather(store: ObjectStore, draft: Draft, shard: int, work: Path, cache: Cache | None = None) -> Gathered:
    """Download the newest whole version of a shard, and every delta of the draft that it lacks and that is whole.

    The deltas come while the snapshot does.

    Args:
        store, draft, shard: which shard of what.
        work: an empty folder on a disk with room for two such shards and the deltas.
        cache: where the snapshot may be on this machine.

    Raises:
        StoreError: something could not be read just now; that says nothing of it.
    """
    found = Gathered(work / "snapshot")

    def fetch(refs: Sequence[DeltaRef]) -> dict[DeltaRef, Fetched]:
        return dict(zip(refs, at_once(lambda ref: _fetch(store, ref, work / "deltas" / ref.id), refs), strict=True))

    with ThreadPoolExecutor(1, thread_name_prefix="deltas") as pool:
        ahead = pool.submit(fetch, draft.missing)
        for base in [] if draft.rebuild else bases(store, draft.collection, log_end(store, draft.collection)):
            if _take_base(store, draft, shard, base, found, work, cache):
                break
        fetched = ahead.result()
    held = set(found.base.deltas) - set(draft.again) if found.base else set()
    refs = tuple(ref for ref in draft.missing if ref.id not in held)
    if (found.base.id if found.base else None) != draft.base:
        # An older version, or none, lacks more than the one that the draft was made for.
        listed = list_databases(store, draft.collection).deltas
        refs, _ = sort_out(store, [d.ref(draft.collection) for d in listed if d.name not in held], draft.kind)
        fetched |= fetch([ref for ref in refs if ref not in fetched])
    for delta in (fetched[ref] for ref in refs):
        if isinstance(delta, Damage):
            found.damages.append(delta)
        elif delta:
            manifest, traffic = delta
            found.deltas.append(manifest)
            found.sources.append(_source(manifest, work / "deltas" / manifest.id, shard=shard, shards=draft.shards))
            found.traffic += traffic
    found.proof += found.sources
    return found


def _take_base(
    store: ObjectStore, draft: Draft, shard: int, base: Base, found: Gathered, work: Path, cache: Cache | None
) -> bool:
    """Whether all that is wanted of a version is whole and here; the first damage ends it, and is noted."""
    if base.manifest is None:
        place = layout.snapshots(draft.collection, base.version)
        found.damages.append(Damage("snapshot", base.version, place, base.problem))
        return False
    alike = len(base.manifest.parts) == draft.shards
    sources: list[Source] = []
    parents = list(_parents(base.manifest, shard, draft.shards))
    own = bool(parents) and alike
    for part in parents:
        folder = work / "base" / part.shard
        nearby = [cache.place(part.id) / part.shard] if cache and _untouched(store, part) else []
        try:
            found.traffic += download_database(store, part, folder, nearby, copy=found.folder if own else None)
        except CorruptedError as error:
            found.damages.append(Damage.of(part, error.reason))
            for unfinished in (work / "base", found.folder):
                shutil.rmtree(unfinished, ignore_errors=True)
            return False
        sources.append(
            _source(part, folder, proved=base.proved)
            if alike
            else _source(part, folder, shard=shard, shards=draft.shards)
        )
    found.base, found.parents = base.manifest, parents
    if not alike:
        found.sources += sources
    elif parents:
        found.own, found.proof = parents[0], sources
    return True


def _source(manifest: Manifest, folder: Path, **which: Any) -> Source:
    """A database that is here, with what its manifest says that it holds."""
    label = f"{manifest.id}.{manifest.shard}" if manifest.shard else manifest.id
    return Source(folder, label, digest=manifest.digest, count=manifest.count, **which)


def _untouched(store: ObjectStore, manifest: Manifest) -> bool:
    """Whether no file of a database is younger than its manifest, which was written last.

    Otherwise somebody has written over what was committed: then the store's own files are looked at, and not a copy of
    what they were.
    """
    times = {item.key: item.modified for item in store.walk(manifest.folder)}
    written = times.get(manifest.key)
    keys = (f"{manifest.folder}/{entry.path}" for entry in manifest.files)
    return written is not None and all(key in times and times[key] <= written for key in keys)


def _parents(manifest: Manifest, shard: int, shards: int) -> Iterable[Manifest]:
    """The databases of a version that may hold records of this one of so many shards.

    A hash that is j modulo m and k modulo n exists where j and k are equal modulo the greatest common divisor of m
    and n: with twice as many shards each is made of one old one, with half as many of two.
    """
    common = math.gcd(len(manifest.parts), shards)
    return (
        part for number, part in enumerate(manifest.parts) if part is not None and number % common == shard % common
    )


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
    for manifest in (*gathered.parents, *gathered.deltas):
        verdict = verify(store, manifest, spec, level="full", scratch=scratch).verdict
        if verdict.kind == "corrupted" and store.exists(manifest.key):
            culprits.append(Damage.of(manifest, verdict.reason))
    return culprits


def _fetch(store: ObjectStore, ref: DeltaRef, folder: Path) -> Fetched:
    """A delta's manifest, its files in the folder; or what is wrong with it; None where it is gone."""
    try:
        manifest = load_manifest(store, ref.key)
        return manifest, download_database(store, manifest, folder)
    except ObjectMissingError:
        return None
    except CorruptedError as error:
        shutil.rmtree(folder, ignore_errors=True)
        # Whoever deletes a delta or moves it aside takes its manifest first; then it is nobody's damage.
        if not store.exists(ref.key):
            return None
        return Damage("delta", ref.id, ref.key.rpartition("/")[0], error.reason)
