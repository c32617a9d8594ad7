"""Holds a snapshot against what was accepted: every record of the deltas that it counts as merged has to be in it.

What a delta brought is what its landings accepted, but for what is set aside by name. A snapshot has each of these ids,
with the record of that batch or of a later one: last submitted wins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from embedding_assets.batches.files import read_parquet
from embedding_assets.batches.kinds import fits
from embedding_assets.batches.landing import Landing, counting_landings
from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.child import ids_of_database
from embedding_assets.chroma.read import read_origins
from embedding_assets.chroma.sqlite_reader import UnknownFormatError
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.delta import DeltaRef, list_deltas
from embedding_assets.vectorstore.manifest import BatchEntry, Manifest, load_manifest
from embedding_assets.vectorstore.transfer import at_once

Batch: TypeAlias = tuple[int, str]  # submitted, batch id: the greater one wins
_WINS = (2**63, "")


@dataclass(frozen=True)
class Claim:
    """One landing that a snapshot counts as merged: the ids, the batch, and the deltas that brought it."""

    ids: frozenset[str]
    batch: Batch
    deltas: tuple[str, ...]


@dataclass(frozen=True)
class Accepted:
    """All accepted ids: those of compacted deltas, those that still wait, those of compacted deltas that are set
    aside, and the batches whose lists are damaged."""

    claims: list[Claim] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    aside: set[str] = field(default_factory=set)
    damaged: list[str] = field(default_factory=list)

    def lost(self, held: Mapping[str, Batch]) -> dict[str, list[str]]:
        """The ids that a snapshot lacks, or has only as an older batch had them, by the deltas that brought them.

        Args:
            held: the ids of the snapshot, as `held_origins` gives them.
        """
        found: dict[str, list[str]] = defaultdict(list)
        for claim in self.claims:
            lost = sorted(one for one in claim.ids if one not in held or held[one] < claim.batch)
            for delta in claim.deltas if lost else ():
                found[delta] += lost
        return dict(sorted(found.items()))


def accepted_records(store: ObjectStore, spec: CollectionSpec, snapshot: Manifest) -> Accepted:
    """What was accepted in any batch of a collection, and what of it a snapshot says that it holds.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    compacted = _compacted_landings(store, spec, snapshot)
    landings = [
        landing
        for day in store.folders(layout.results(spec.name))
        for landing in counting_landings(store, spec.name, day)
        if landing.accepted and fits(landing, spec)
    ]

    def ids(landing: Landing) -> list[str] | None:
        try:
            return [str(i) for i in read_parquet(store, landing.folder, landing.accepted_file).column("id").to_pylist()]
        except CorruptedError:
            return None

    found = Accepted()
    for landing, some in zip(landings, at_once(ids, landings, threads=16), strict=True):
        entries = compacted.get((landing.batch_id, landing.landing_id))
        if some is None:
            found.damaged.append(landing.batch_id)
        elif entries is None:
            found.waiting.update(some)
        else:
            # A later delta of the same landing may hold what an earlier one set aside.
            aside = frozenset.intersection(*(frozenset(entry.set_aside) for _, entry in entries))
            found.aside.update(aside)
            batch = (entries[0][1].submitted, landing.batch_id)
            found.claims.append(Claim(frozenset(some) - aside, batch, tuple(delta for delta, _ in entries)))
    return found


def held_origins(folder: Path, snapshot: Manifest) -> dict[str, Batch]:
    """The ids in a copy of a snapshot, with the batch that each record is from."""
    held: dict[str, Batch] = {}
    for part in snapshot.databases:
        try:
            for ids, origins in read_origins(folder / part.shard, snapshot.collection):
                held.update((i, (one.submitted, one.batch_id)) for i, one in zip(ids, origins, strict=True))
        except UnknownFormatError:  # then the ids have to do
            held.update((i, _WINS) for i in ids_of_database(folder / part.shard, snapshot.collection))
    return held


def _compacted_landings(
    store: ObjectStore, spec: CollectionSpec, snapshot: Manifest
) -> dict[tuple[str, str], list[tuple[str, BatchEntry]]]:
    """(batch id, landing id) of all that the snapshot's deltas hold -> the deltas that hold it, with their entries."""
    inside = set(snapshot.deltas)
    refs = [ref for ref in list_deltas(store, spec.name) if ref.id in inside]

    def entries(ref: DeltaRef) -> tuple[BatchEntry, ...]:
        try:
            return load_manifest(store, ref.key).batches
        except (CorruptedError, ObjectMissingError):
            return ()  # the check of the deltas reports it; what it holds counts as waiting

    found: dict[tuple[str, str], list[tuple[str, BatchEntry]]] = defaultdict(list)
    for ref, some in zip(refs, at_once(entries, refs, threads=16), strict=True):
        for entry in some:
            found[entry.batch_id, entry.landing_id].append((ref.id, entry))
    return found
