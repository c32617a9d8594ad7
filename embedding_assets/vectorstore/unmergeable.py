"""Sets records aside that are good in their delta but do not survive a merge, so that they stop no compaction.

Such a delta is made again of its own records without them: nothing is polled or paid for again. The order of the writes
is: the records to the quarantine, the new delta, which names them, and then the old delta to the quarantine. Whatever
is cut off in between is done by the next compaction, which fails at the same records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.child import MergeFailedError, merge_in_child, write_in_child
from embedding_assets.chroma.read import is_readable, read_records
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.errors import CorruptedError
from embedding_assets.records import BATCH_KEY, RecordBatch
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.damage import Damage, move_aside
from embedding_assets.vectorstore.delta import DeltaFailedError, LandedBatch, build_delta, group_batches
from embedding_assets.vectorstore.draft import Draft
from embedding_assets.vectorstore.gather import Gathered
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.publish import prove
from embedding_assets.vectorstore.unstorable import Unstorable, find_unstorable, keep_aside, leave_out

_AT_ONCE = 50_000  # records that are searched together, and are in memory then

Log = Callable[[str], None]


@dataclass(frozen=True)
class _Opened:
    """A delta, and the records of each of its batches on disk."""

    delta: Manifest
    batches: tuple[LandedBatch, ...]

    def label(self, batch: LandedBatch) -> str:
        return f"{self.delta.id} {batch.batch_id}"

    def sources(self) -> list[Source]:
        return [Source(b.records, self.label(b), b.batch_id, b.submitted, self.delta.id) for b in self.batches]


def set_unmergeable_aside(
    store: ObjectStore, spec: CollectionSpec, draft: Draft, found: Gathered, scratch: Path, log: Log
) -> list[Damage]:
    """Replace the deltas that have records which no merge takes by deltas without them.

    Args:
        store, spec, draft: of the compaction that fails.
        found: what it was made of, none of which is damaged.
        scratch: an existing folder on a disk with room for the deltas, three times; left as it was.
        log: told what is done.

    Returns:
        The deltas that were replaced, with the reasons; the quarantine has them. Empty where no record is at fault, as
        far as that can be told.

    Raises:
        UnreadableError: a trial database could not be examined just now.
        StoreError: the store did not answer, or refuses.
    """
    database = DatabaseSpec(spec.name, spec.dimensions, spec.distance)
    places = {source.label: source.path for source in found.sources}
    # What legacy data holds belongs to no batch that could name it as set aside.
    deltas = [one for one in found.deltas if one.batches and is_readable(places[one.id], spec.name)]
    replaced: list[Damage] = []
    for group in group_batches([delta.count for delta in deltas], _AT_ONCE):
        with ScratchFolder("unmergeable", scratch) as work:
            try:
                opened = [_open(deltas[at], places[deltas[at].id], work / deltas[at].id) for at in group]
                sources = [source for one in opened for source in one.sources()]
                aside = find_unstorable(database, sources, work, trial=try_to_merge)
                for one in opened:
                    mine = {b.batch_id: aside[one.label(b)] for b in one.batches if one.label(b) in aside}
                    if mine:
                        replaced += _replace(store, spec, draft, found, one, mine, work, log)
            except (MergeFailedError, CorruptedError, DeltaFailedError) as error:
                log(f"no record was set aside: {error.reason}")
    return replaced


def try_to_merge(folder: Path, database: DatabaseSpec, sources: Sequence[Source], records: int) -> None:
    """A delta of these records, merged into nothing through chromadb, the last way that a compaction has; proved.

    Raises:
        MergeFailedError, CorruptedError, UnreadableError: it is not made, or not proved.
    """
    folder.mkdir()
    delta, merged = Source(folder / "delta", "a delta"), folder / "merged"
    write_in_child(delta.path, database, sources, records=records)
    merge_in_child(merged, database, [delta], records=records, hindrance="a trial of the last way that there is")
    prove(merged, database, [delta], records=records, subject="a trial merge")


def _open(delta: Manifest, folder: Path, target: Path) -> _Opened:
    """Write a delta's records to a Parquet file per batch, as they were landed.

    Raises:
        CorruptedError: it has records that are of none of its batches.
    """
    target.mkdir()
    parts: dict[str, list[RecordBatch]] = {entry.batch_id: [] for entry in delta.batches}
    count = 0
    for batch in read_records(folder, delta.collection, raw=True):
        owners = [metadata.get(BATCH_KEY) for metadata in batch.metadatas]
        for batch_id, mine in parts.items():
            rows = [row for row, owner in enumerate(owners) if owner == batch_id]
            count += len(rows)
            if rows:
                mine.append(batch.take(rows))
    if count != delta.count:
        raise CorruptedError(delta.key, "has records that are of none of its batches", "It stays as it is.")
    batches = []
    for number, entry in enumerate(delta.batches):
        nothing = RecordBatch([], np.empty((0, delta.dimension), dtype=np.float32), [], [])
        held = RecordBatch.joined(parts[entry.batch_id] or [nothing])
        path = target / f"{number}.parquet"
        pq.write_table(held.without_origin().to_arrow(), path)
        batches.append(
            LandedBatch(entry.batch_id, entry.submitted, entry.landing_id, entry.accepted, path, entry.set_aside)
        )
    return _Opened(delta, tuple(batches))


def _replace(
    store: ObjectStore,
    spec: CollectionSpec,
    draft: Draft,
    found: Gathered,
    opened: _Opened,
    aside: dict[str, Unstorable],
    work: Path,
    log: Log,
) -> list[Damage]:
    """Put a delta without these records, by batch, in the place of a delta."""
    delta, day = opened.delta, str(opened.delta.day)
    sound = []
    for number, batch in enumerate(opened.batches):
        ids = tuple(aside[batch.batch_id].reasons) if batch.batch_id in aside else ()
        kept = work / delta.id / f"{number}-kept.parquet"
        leave_out(batch.records, ids, kept)
        sound.append(replace(batch, records=kept, set_aside=(*batch.set_aside, *ids)))
    some = "; ".join(f"{one!r}: {why}" for each in aside.values() for one, why in list(each.reasons.items())[:5])
    reason = f"records of it cannot be merged: {some}"
    if store.exists(delta.key):  # otherwise another shard's process, with the same findings, was faster
        for batch in opened.batches:
            if batch.batch_id in aside:
                keep_aside(store, spec.name, day, batch.batch_id, batch.landing_id, aside[batch.batch_id], draft.run_id)
        heir = next((one for one in found.deltas if _replaces(one, delta, sound)), None)
        if heir is None:
            heir = build_delta(store, spec, day, sound, run_id=draft.run_id, scratch=work)
        reason += f"; delta {heir.id} holds all its other records"
    (moved,) = move_aside(store, spec.name, [Damage.of(delta, reason)], draft.end, draft.run_id)
    log(f"delta {delta.id} is replaced: {reason}")
    return [moved]


def _replaces(other: Manifest, delta: Manifest, sound: Sequence[LandedBatch]) -> bool:
    """Whether another delta is what an earlier run, which died before it moved this one, made in its place."""
    held = {(one.batch_id, one.landing_id, frozenset(one.set_aside)) for one in other.batches}
    wanted = {(one.batch_id, one.landing_id, frozenset(one.set_aside)) for one in sound}
    return other.id != delta.id and other.day == delta.day and held == wanted
