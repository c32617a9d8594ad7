"""A version that is being made: what those who make its shards, each by itself, have to agree on.

A draft is made once; then each shard is made, by whatever process on whatever machine, and committed by its own
manifest, put-if-absent; then the version is committed. A shard that is made already is not made again. Nothing of a
draft counts until the version is committed; where another version is committed first, all of it is garbage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from embedding_assets.catalog import VectorKind
from embedding_assets.chroma.reports import Examination, MergeReport
from embedding_assets.records import ContentDigest
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import load_commit, repair_pointer, try_commit
from embedding_assets.vectorstore.damage import Damage
from embedding_assets.vectorstore.delta import DeltaRef
from embedding_assets.vectorstore.kinds import SetAside
from embedding_assets.vectorstore.manifest import FORMAT, FileEntry, Manifest, ShardEntry
from embedding_assets.vectorstore.marks import unmark
from embedding_assets.vectorstore.publish import discard, require_whole
from embedding_assets.vectorstore.transfer import NO_TRAFFIC, Traffic

_NO_RECORDS = ContentDigest().hex()


@dataclass(frozen=True)
class Draft:
    """What is agreed on.

    Attributes:
        collection, version, generation: what is made.
        end: the last generation that was taken when the draft was made.
        base: the version that `missing` was held against; None: nothing.
        kind: of vectors that the collection holds.
        missing: the committed deltas of this kind that the base lacks, in order.
        shards: how many.
        rebuild: whether all shards start from nothing.
        run_id: who makes it.
        aside: the committed deltas of another kind.
        without: deltas that are gone and that the version may leave out: what they held is elsewhere, or somebody said
            that it may be lost. The id of the current version among them: it may hold fewer records of the same deltas.
        again: deltas among `missing` that are merged although the base counts them as merged.
    """

    collection: str
    version: str
    generation: int
    end: int
    base: str | None
    kind: VectorKind
    missing: tuple[DeltaRef, ...]
    shards: int
    rebuild: bool
    run_id: str
    aside: tuple[SetAside, ...] = ()
    without: tuple[str, ...] = ()
    again: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShardDone:
    """What became of one shard of a draft.

    Attributes:
        shard: which, from 0.
        manifest: of its database; None where it holds no records, or was not made.
        held: ids of the deltas whose records it holds, as far as they belong here.
        again: why the draft is of no use any more: another writer was faster, or something was moved aside only after
            it had been merged. Then a new draft is to be made.
        lost: whether that was another writer.
        base: the version that it was made from; None: from nothing.
        deltas: manifests of the deltas that were merged.
        merged, examined: what the merge and the proof said; None where there was nothing to merge.
        damages: what turned out corrupted and was moved aside.
        traffic: what was moved over the network.
    """

    shard: int
    manifest: Manifest | None = None
    held: frozenset[str] = frozenset()
    again: str = ""
    lost: bool = False
    base: str | None = None
    deltas: tuple[Manifest, ...] = ()
    merged: MergeReport | None = None
    examined: Examination | None = None
    damages: tuple[Damage, ...] = ()
    traffic: Traffic = NO_TRAFFIC


def commit_version(store: ObjectStore, draft: Draft, done: Sequence[ShardDone]) -> Manifest | None:
    """Commit a version whose shards are all made; to do so again changes nothing.

    Returns:
        Its manifest; None where another writer's commit came first: then what was made is removed.

    Raises:
        CorruptedError: files of it are gone, as where `prune` took them for a dead writer's; nothing is committed.
        StoreError: the store refused or did not answer.
    """
    manifest = unite(draft, done)
    if manifest.shards:
        store.put_new(manifest.key, manifest.to_bytes())
    # The last look: its own manifest, and each shard's manifest and files.
    require_whole(store, manifest, *manifest.databases)
    merged = {delta.id: delta for one in done for delta in one.deltas}
    added = [merged[name] for name in sorted(merged.keys() & set(manifest.deltas))]
    if not try_commit(store, manifest, added, marked=True):
        commit = load_commit(store, draft.collection, draft.generation)
        if commit is None or commit.version != draft.version:
            withdraw(store, manifest)
            return None
    repair_pointer(store, draft.collection)
    unmark(store, draft.collection, manifest.deltas)
    return manifest


def withdraw(store: ObjectStore, manifest: Manifest) -> None:
    """Remove a version that was not committed, or the shards of it that there are."""
    if manifest.shards:
        discard(store, replace(manifest, files=()))
    for part in manifest.databases:
        discard(store, part)


def unite(draft: Draft, done: Sequence[ShardDone]) -> Manifest:
    """The manifest of a version, of those of its shards; at least one of them must hold records."""
    parts = [one.manifest for one in sorted(done, key=lambda one: one.shard)]
    first = next(part for part in parts if part is not None)
    if draft.shards == 1:
        return first
    names = [layout.shard_name(number, draft.shards) for number in range(draft.shards)]
    shards = tuple(
        ShardEntry(name, part.count if part else 0, part.digest if part else _NO_RECORDS)
        for name, part in zip(names, parts, strict=True)
    )
    files = tuple(
        FileEntry(f"{part.shard}/{entry.path}", entry.size, entry.sha256)
        for part in parts
        if part is not None
        for entry in part.files
    )
    return replace(
        first,
        format=FORMAT,
        shard="",
        shards=shards,
        count=sum(shard.count for shard in shards),
        digest=ContentDigest.of_union(shard.digest for shard in shards),
        files=files,
        created_at=max(part.created_at for part in parts if part is not None),
        parent=max((one.base for one in done if one.base), default=None),
        # What only some of the shards hold counts as missing still: merging it into the others again changes nothing.
        deltas=tuple(sorted(frozenset.intersection(*(one.held for one in done)))),
    )
