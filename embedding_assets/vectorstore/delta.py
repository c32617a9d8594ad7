"""Deltas: small batches of a cell put together into immutable databases; and what deltas there are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.child import MergeFailedError, write_in_child
from embedding_assets.chroma.reports import Examination
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.errors import (
    CorruptedError,
    EmbeddingAssetsError,
    ObjectMissingError,
    StoreUnavailableError,
    UnreadableError,
)
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.manifest import BatchEntry, Manifest, describe_files, load_manifest
from embedding_assets.vectorstore.publish import prove, prove_and_publish
from embedding_assets.vectorstore.transfer import at_once
from embedding_assets.vectorstore.unstorable import find_unstorable, keep_aside, leave_out

TRIES = 3


@dataclass(frozen=True)
class LandedBatch:
    """One batch's accepted records on disk, as a delta takes them in.

    Attributes:
        batch_id, submitted: the batch and its created_at, seconds since 1970.
        landing_id: which landing of its results this is.
        accepted: how many records.
        records: Parquet file with `records.record_schema`.
        set_aside: ids of those that no database takes, and that `records` does not hold.
    """

    batch_id: str
    submitted: int
    landing_id: str
    accepted: int
    records: Path
    set_aside: tuple[str, ...] = ()


@dataclass(frozen=True, order=True)
class DeltaRef:
    """A committed delta: its id and its cell's day."""

    id: str
    day: str
    collection: str

    @property
    def key(self) -> str:
        """The key of its manifest."""
        return f"{layout.deltas(self.collection, self.day, self.id)}/{layout.MANIFEST}"


def group_batches(sizes: Sequence[int], delta_records: int) -> list[list[int]]:
    """Positions of batches grouped into deltas of about `delta_records` records, in order, each batch in one delta.

    A batch larger than that is a delta of its own; a group never exceeds the size unless one batch does.
    """
    groups: list[list[int]] = []
    held = 0
    for position, size in enumerate(sizes):
        if groups and held + size <= delta_records:
            groups[-1].append(position)
            held += size
        else:
            groups.append([position])
            held = size
    return groups


def build_delta(
    store: ObjectStore, spec: CollectionSpec, day: str, batches: Sequence[LandedBatch], *, run_id: str, scratch: Path
) -> Manifest:
    """Build, close, verify, upload, verify again and commit one delta; up to three tries, each cleaning up.

    Where that fails because of single records, they are written to the quarantine, and the delta holds the others and
    names them.

    Args:
        store: where it goes.
        spec: its collection.
        day: its cell's day.
        batches: what it holds.
        run_id: who writes it.
        scratch: an existing folder on a disk with room for it; left empty.

    Raises:
        EmbeddingAssetsError: the third failure; nothing was committed.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return _try_build(store, spec, day, batches, run_id, scratch)
        except _FAILURES as error:
            if attempt < TRIES:
                continue
            failure: EmbeddingAssetsError = error
    try:
        if isinstance(failure, MergeFailedError | CorruptedError):
            built = _build_without(store, spec, day, batches, run_id, scratch)
            if built:
                return built
    except _FAILURES as error:
        failure = error
    raise DeltaFailedError(
        f"delta of {spec.name} on {day} with {len(batches)} batches",
        f"could not be built in {TRIES} tries; the last: {failure.subject}: {failure.reason}",
        "Nothing was committed and nothing is lost: the batches stay pending, the next run builds them.",
    ) from failure


_FAILURES = (MergeFailedError, CorruptedError, UnreadableError, StoreUnavailableError)


def _build_without(
    store: ObjectStore, spec: CollectionSpec, day: str, batches: Sequence[LandedBatch], run_id: str, scratch: Path
) -> Manifest | None:
    """The delta without the records that no database takes; None where there are none. Errors as `_try_build`."""
    found = find_unstorable(_database(spec), _sources(batches, layout.new_id()), scratch)
    if not found:
        return None
    with ScratchFolder("without", scratch) as work:
        sound = []
        for number, batch in enumerate(batches):
            aside = found.get(batch.batch_id)
            if aside:
                # First the quarantine: whoever reads in the manifest that a record is set aside finds it there.
                keep_aside(store, spec.name, day, batch.batch_id, batch.landing_id, aside, run_id)
                kept = Path(work) / f"{number}.parquet"
                leave_out(batch.records, aside.reasons, kept)
                sound.append(replace(batch, records=kept, set_aside=(*batch.set_aside, *aside.reasons)))
            else:
                sound.append(batch)
        return _try_build(store, spec, day, sound, run_id, scratch)


class DeltaFailedError(EmbeddingAssetsError):
    """A delta could not be built; its batches stay pending."""

    recoverable = True


def _try_build(
    store: ObjectStore, spec: CollectionSpec, day: str, batches: Sequence[LandedBatch], run_id: str, scratch: Path
) -> Manifest:
    delta_id = layout.new_id()
    sources = _sources(batches, delta_id)

    def entries(applied: dict[str, int]) -> tuple[BatchEntry, ...]:
        return tuple(
            BatchEntry(b.batch_id, b.submitted, b.landing_id, b.accepted, applied[b.batch_id], b.set_aside)
            for b in batches
        )

    records = sum(batch.accepted for batch in batches)
    return write_delta(
        store, spec, day, delta_id, sources, records=records, entries=entries, run_id=run_id, scratch=scratch
    )


def _sources(batches: Sequence[LandedBatch], delta_id: str) -> list[Source]:
    return [Source(b.records, b.batch_id, b.batch_id, b.submitted, delta_id) for b in batches]


def _database(spec: CollectionSpec) -> DatabaseSpec:
    return DatabaseSpec(spec.name, spec.dimensions, spec.distance)


def write_delta(
    store: ObjectStore,
    spec: CollectionSpec,
    day: str,
    delta_id: str,
    sources: Sequence[Source],
    *,
    records: int,
    run_id: str,
    scratch: Path,
    entries: Callable[[dict[str, int]], tuple[BatchEntry, ...]] = lambda applied: (),
) -> Manifest:
    """Make one delta of these sources, prove it, upload it and commit it, in one try.

    Args:
        store, spec, day, delta_id: where it goes and what it is called.
        sources: what it holds.
        records: about how many records that are; sets time limits.
        run_id: who writes it.
        scratch: an existing folder on a disk with room for it; left as it was.
        entries: its batches, given how many records of each source were applied.

    Raises:
        MergeFailedError, CorruptedError, UnreadableError, StoreError: it was not committed.
    """
    folder = scratch / delta_id
    database = _database(spec)
    try:
        written = write_in_child(folder, database, sources, records=records)

        def proof() -> Examination:
            subject = f"new delta {delta_id} of {spec.name}"
            indexed = written.engine != "direct"
            return prove(folder, database, sources, records=records, subject=subject, indexed=indexed)

        def manifest() -> Manifest:
            return Manifest(
                kind="delta",
                id=delta_id,
                collection=spec.name,
                model=spec.model,
                dimension=spec.dimensions,
                distance=spec.distance,
                count=written.count,
                digest="",
                files=describe_files(folder),
                created_at=layout.now().isoformat(),
                run_id=run_id,
                chromadb_version=written.chromadb_version,
                engine=written.how,
                day=day,
                batches=entries(written.applied),
            )

        return prove_and_publish(store, folder, proof, manifest)[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def list_deltas(store: ObjectStore, collection: str, day: str | None = None) -> list[DeltaRef]:
    """The committed deltas of a collection, or of one cell, in the order of their ids."""
    found = []
    for item in store.walk(layout.deltas(collection, day)):
        parts = item.key.split("/")
        if parts[-1] == layout.MANIFEST and len(parts) == 5:
            found.append(DeltaRef(parts[3], parts[2], collection))
    return sorted(found)


def load_deltas(store: ObjectStore, refs: Sequence[DeltaRef]) -> list[Manifest]:
    """The manifests of these deltas, in order."""
    return at_once(lambda ref: load_manifest(store, ref.key), refs, threads=16)


def readable_deltas(store: ObjectStore, refs: Sequence[DeltaRef]) -> list[Manifest]:
    """The manifests of these deltas, in order, without those that are damaged, or gone since they were listed."""

    def load(ref: DeltaRef) -> Manifest | None:
        try:
            return load_manifest(store, ref.key)
        except (CorruptedError, ObjectMissingError):
            return None

    return [manifest for manifest in at_once(load, refs, threads=16) if manifest is not None]
