"""Makes one shard of a version: the one before, and what it lacks; proved, uploaded, read back, then its manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.child import MergeFailedError, ids_of_database, merge_in_child
from embedding_assets.chroma.reports import Examination
from embedding_assets.chroma.spec import DatabaseSpec
from embedding_assets.chroma.sqlite_reader import SQLITE_FILE
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.records import ContentDigest, shard_of
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.bases import bases
from embedding_assets.vectorstore.cache import Cache
from embedding_assets.vectorstore.commit import log_end
from embedding_assets.vectorstore.damage import Damage, move_aside
from embedding_assets.vectorstore.draft import Draft, ShardDone
from embedding_assets.vectorstore.gather import Gathered, find_culprits, gather
from embedding_assets.vectorstore.gone import require_kept
from embedding_assets.vectorstore.manifest import Manifest, describe_files, load_manifest
from embedding_assets.vectorstore.publish import discard, prove, prove_and_publish
from embedding_assets.vectorstore.transfer import Traffic, at_once, copy_folder, verify_files
from embedding_assets.vectorstore.unmergeable import set_unmergeable_aside

Log = Callable[[str], None]


def make_shard(
    store: ObjectStore,
    spec: CollectionSpec,
    draft: Draft,
    shard: int,
    *,
    scratch: Path,
    cache: Cache | None = None,
    log: Log = lambda message: None,
) -> ShardDone:
    """Make one shard of a draft, and commit it; one that was committed before is left as it is.

    Args:
        store, spec, draft, shard: which shard of what.
        scratch: an existing folder on a disk with room for two such shards and the deltas; left as it was.
        cache: where the base may be on this machine, and where the new shard is left.
        log: told what is done.

    Raises:
        MergeFailedError, CorruptedError: it could not be made, and nothing that it is made of is to blame.
        StoreError: something could not be read just now; nothing of it was moved.
        RecordsWouldGoError: it would leave out what the current version holds, and nobody said that it may.
    """
    name = layout.shard_name(shard, draft.shards)
    spec = spec.of_kind(draft.kind)
    if draft.shards > 1:
        key = f"{layout.snapshots(draft.collection, draft.version, name)}/{layout.MANIFEST}"
        if store.exists(key):
            made = load_manifest(store, key)
            return ShardDone(shard, made, frozenset(made.deltas), base=made.parent)
    if log_end(store, draft.collection).generation != draft.end:
        return _overtaken(shard, [])
    carried = _carry_over(store, draft, shard) if draft.shards > 1 else None
    if carried is not None:
        return carried
    with ScratchFolder("shard", scratch) as work:
        return _make(store, spec, draft, shard, work, cache, log)


def _make(
    store: ObjectStore, spec: CollectionSpec, draft: Draft, shard: int, work: Path, cache: Cache | None, log: Log
) -> ShardDone:
    found = gather(store, draft, shard, work, cache)
    damages: list[Damage] = []
    if found.damages:
        damages = move_aside(store, draft.collection, found.damages, draft.end, draft.run_id)
        for damage in damages:
            log(f"{damage.kind} {damage.name} is corrupted ({damage.reason}); {damage.fate}")
        if len(damages) < len(found.damages):
            # What seemed damaged may just have been cleaned up.
            return _overtaken(shard, damages)
    for manifest in (*found.parents, *found.deltas):
        # Vectors of two kinds in one index would make every answer of it wrong.
        spec.require_kind(manifest.vectors, f"{manifest.kind} {manifest.id} holds")
    held = _kept(found.base, draft) | {delta.id for delta in found.deltas}
    require_kept(store, draft, held)
    done = ShardDone(
        shard,
        held=held,
        base=found.base.id if found.base else None,
        deltas=tuple(found.deltas),
        damages=tuple(damages),
        traffic=found.traffic,
    )
    try:
        if found.own is None and not _holds_any(found, spec.name):
            return done
        return _merge(store, spec, draft, found, done, cache, log)
    except (MergeFailedError, CorruptedError) as error:
        culprits = find_culprits(store, spec, found, work)
        if not culprits:
            # What it was made of is whole, so it is the making that failed; there is another way, ten times slower.
            log(f"merging again, through chromadb: {error.reason}")
            return _merge_by_api(store, spec, draft, found, done, work, cache, log, f"merged directly, {error.reason}")
        damages += move_aside(store, draft.collection, culprits, draft.end, draft.run_id)
        return replace(done, again="what it was made of turned out damaged", damages=tuple(damages))


def _merge_by_api(
    store: ObjectStore,
    spec: CollectionSpec,
    draft: Draft,
    found: Gathered,
    done: ShardDone,
    work: Path,
    cache: Cache | None,
    log: Log,
    hindrance: str,
) -> ShardDone:
    """The merge once more, through chromadb; where that fails, too, because of records, they alone are set aside."""
    try:
        _start_again(found)
        return _merge(store, spec, draft, found, done, cache, log, hindrance)
    except (MergeFailedError, CorruptedError) as error:
        if isinstance(error, MergeFailedError) and not error.refused:
            raise
        log(f"looking for records that cannot be merged: {error.reason}")
        replaced = set_unmergeable_aside(store, spec, draft, found, work, log)
        if not replaced:
            raise
        return replace(done, again="records that cannot be merged were set aside", damages=(*done.damages, *replaced))


def _start_again(found: Gathered) -> None:
    """Put the folder that was merged into back to what it was."""
    shutil.rmtree(found.folder, ignore_errors=True)
    if found.own is not None:
        copy_folder(found.proof[0].path, found.folder)
        # Its index files may be the store's own, or the cache's: they have to be what they were. The SQLite file is a
        # copy in any case, and another program may have changed it before.
        committed = {entry for entry in found.own.files if entry.path != SQLITE_FILE}
        if not committed <= set(describe_files(found.folder)):
            raise CorruptedError(found.own.key, "its files were changed while it was read", "Run it again.")


def _merge(
    store: ObjectStore,
    spec: CollectionSpec,
    draft: Draft,
    found: Gathered,
    done: ShardDone,
    cache: Cache | None,
    log: Log,
    hindrance: str = "",
) -> ShardDone:
    """The one merge."""
    name = layout.shard_name(done.shard, draft.shards)
    start = (found.base.id if found.base else "nothing") + (f", {name}" if name else "")
    log(f"merging {len(found.deltas)} deltas into {start}: {found.records} records")
    database = DatabaseSpec(spec.name, spec.dimensions, spec.distance)
    merged = merge_in_child(found.folder, database, found.sources, records=found.records, hindrance=hindrance)

    def proof() -> Examination:
        subject = f"new snapshot {draft.version} of {spec.name}"
        return prove(found.folder, database, found.proof, records=2 * found.records, subject=subject)

    def describe() -> Manifest:
        return Manifest(
            kind="snapshot",
            id=draft.version,
            collection=spec.name,
            model=spec.model,
            dimension=spec.dimensions,
            distance=spec.distance,
            count=0,
            digest="",
            files=describe_files(found.folder),
            created_at=layout.now().isoformat(),
            run_id=draft.run_id,
            chromadb_version=merged.chromadb_version,
            engine=merged.how,
            generation=draft.generation,
            parent=done.base,
            deltas=tuple(sorted(done.held)),
            shard=name,
        )

    manifest, examined = prove_and_publish(store, found.folder, proof, describe)
    log(f"proved: {examined.count} records, each as in the source that won it")
    if cache:
        cache.keep(f"{draft.version}/{name}" if name else draft.version, found.folder)
    traffic = done.traffic + Traffic(uploaded=manifest.size)
    return replace(done, manifest=manifest, merged=merged, examined=examined, traffic=traffic)


def _carry_over(store: ObjectStore, draft: Draft, shard: int) -> ShardDone | None:
    """A shard that lacks nothing is copied within the store, and read back; None where it has to be made."""
    if draft.missing or draft.rebuild:
        return None
    base = next(iter(bases(store, draft.collection, log_end(store, draft.collection))), None)
    if base is None or base.manifest is None or not base.proved or len(base.manifest.parts) != draft.shards:
        return None
    old = base.manifest.parts[shard]
    done = ShardDone(shard, held=_kept(base.manifest, draft), base=base.version)
    if old is None:
        return done
    new = replace(
        old, id=draft.version, generation=draft.generation, parent=base.version, run_id=draft.run_id,
        created_at=layout.now().isoformat(),
    )  # fmt: skip
    try:
        at_once(lambda entry: store.copy(f"{old.folder}/{entry.path}", f"{new.folder}/{entry.path}"), old.files)
        verify_files(store, new)
        store.put_new(new.key, new.to_bytes())
    except (CorruptedError, ObjectMissingError):
        discard(store, new)
        return None
    return replace(done, manifest=new)


def _kept(base: Manifest | None, draft: Draft) -> frozenset[str]:
    """The deltas that a version takes over from the one that it is made from."""
    return frozenset(base.deltas if base else ()) - frozenset(draft.without)


def _holds_any(found: Gathered, collection: str) -> bool:
    """Whether any record of the sources belongs to the shard.

    Raises:
        CorruptedError: none does, and a source holds other records than its manifest says, which no proof would meet.
    """
    for source in found.sources:
        ids = ids_of_database(source.path, source.collection or collection)
        if any(source.shards == 1 or shard_of(record_id, source.shards) == source.shard for record_id in ids):
            return True
        if len(ids) != source.count or (not ids and source.digest != ContentDigest().hex()):
            reason = f"holds {len(ids)} records, which are not those of its manifest"
            raise CorruptedError(source.label, reason, "Run it again.")
    return False


def _overtaken(shard: int, damages: list[Damage]) -> ShardDone:
    return ShardDone(shard, again="another writer was faster", lost=True, damages=tuple(damages))
