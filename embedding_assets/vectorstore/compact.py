"""Compaction: the current snapshot and the deltas that it lacks become the next snapshot; what is damaged is healed.

Whatever of it is damaged goes to the quarantine: a delta is left out, and its batches are pending again; in the place
of the current snapshot, or of that one shard of it, steps the newest older one that is whole, or nothing, and the
deltas since are merged again.

`compact` does all of it. Where shards are to be made side by side, `begin` says what is to be made, `make_shard` makes
each, by whatever process, and `finish` commits them as one version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.reports import Examination, MergeReport, united_examination, united_merge
from embedding_assets.errors import CommitConflictError, EmbeddingAssetsError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.adopt import Adoption, adopt_folders
from embedding_assets.vectorstore.bases import bases, lost_versions
from embedding_assets.vectorstore.cache import Cache
from embedding_assets.vectorstore.commit import log_end, repair_pointer, try_commit
from embedding_assets.vectorstore.damage import Damage, damage_of
from embedding_assets.vectorstore.draft import Draft, ShardDone, commit_version, unite, withdraw
from embedding_assets.vectorstore.gather import look_for_missing
from embedding_assets.vectorstore.gone import require_kept
from embedding_assets.vectorstore.kinds import SetAside, collection_kind, sort_out
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.marks import mark, unmark
from embedding_assets.vectorstore.planning import CompactionPlan, plan_compaction
from embedding_assets.vectorstore.quarantine import execute_quarantine, plan_quarantine
from embedding_assets.vectorstore.shard import make_shard
from embedding_assets.vectorstore.transfer import NO_TRAFFIC, Traffic
from embedding_assets.vectorstore.verification import Verdict

TRIES = 5  # how often a lost commit is started again

Log = Callable[[str], None]


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
        aside: deltas of another kind than the collection's, which stayed where they are.
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
    aside: tuple[SetAside, ...] = ()


def compact(
    store: ObjectStore,
    spec: CollectionSpec,
    *,
    run_id: str,
    scratch: Path,
    log: Log = lambda message: None,
    rebuild: bool = False,
    every_delta: bool = False,
    without: Sequence[str] = (),
    cache_folder: Path | None = None,
    again: tuple[str, ...] = (),
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
        without: deltas that are gone, and that the snapshot may leave out.
        cache_folder: where copies of snapshots are kept on this machine: the current one is taken from there, as far
            as its files still are what they should be, and the new one is left there.
        again: deltas to merge although the snapshot counts them as merged; merging one again changes nothing else.

    Returns:
        None where there is neither a snapshot nor a delta.

    Raises:
        CommitConflictError: five other commits came first; the snapshot is theirs, and whole.
        StoreError: something could not be read just now; nothing of it was moved.
        RecordsWouldGoError: it would hold less than the current one, and `without` does not say that it may.
    """
    made = Compaction(None, None)
    lost = 0
    while lost < TRIES:
        first = not made.adoptions
        begun = begin(
            store,
            spec,
            run_id=run_id,
            scratch=scratch,
            log=log,
            rebuild=rebuild,
            every_delta=every_delta,
            without=without,
            adopt=first,
            again=again,
        )
        made = replace(made, adoptions=(*made.adoptions, *begun.adoptions))
        if begun.draft is None:
            base = begun.current.id if begun.current else None
            return replace(made, manifest=begun.current, base=base, lost_races=lost, aside=begun.aside)
        done = _all_shards(store, spec, begun.draft, scratch, cache_folder, log)
        ended = finish(store, begun.draft, done, log=log)
        made = replace(made, damages=(*made.damages, *ended.damages), traffic=made.traffic + ended.traffic)
        if ended.manifest is not None:
            return replace(ended, lost_races=lost, damages=made.damages, adoptions=made.adoptions, traffic=made.traffic)
        if not any(one.again for one in done) and not ended.lost_races:
            return replace(made, lost_races=lost) if made.damages or made.adoptions else None
        lost += ended.lost_races
    raise CommitConflictError(
        f"snapshot of {spec.name}", f"{TRIES} other commits came first", "Theirs are whole; the next run goes on."
    )


@dataclass(frozen=True)
class Begun:
    """What is to be made, if anything.

    Attributes:
        draft: None where the current snapshot lacks nothing and is whole.
        current: that snapshot then.
        adoptions: what became of legacy data.
        aside: deltas of another kind than the collection's.
    """

    draft: Draft | None
    current: Manifest | None = None
    adoptions: tuple[Adoption, ...] = ()
    aside: tuple[SetAside, ...] = ()


def begin(
    store: ObjectStore,
    spec: CollectionSpec,
    *,
    run_id: str,
    scratch: Path,
    log: Log = lambda message: None,
    rebuild: bool = False,
    every_delta: bool = False,
    without: Sequence[str] = (),
    adopt: bool = True,
    again: tuple[str, ...] = (),
) -> Begun:
    """See what a compaction has to make, after legacy data was adopted; the arguments are those of `compact`.

    Raises:
        StoreError: the store did not answer, or refuses.
    """

    def planned() -> CompactionPlan:
        return plan_compaction(store, spec, rebuild=rebuild, every_delta=every_delta)

    plan, adoptions = planned(), []
    if adopt and plan.legacy:
        held = spec.of_kind(collection_kind(store, spec))
        adoptions = adopt_folders(store, held, plan.legacy, run_id=run_id, scratch=scratch)
        for one in adoptions:
            log(f"legacy data in {one.folder}: {one.action} {one.reason}".rstrip())
        plan = planned()
    end = log_end(store, spec.name)
    relog = plan.base is not None and end.lost and plan.base.id in lost_versions(store, spec.name, end)
    if plan.base and (plan.current or relog) and not again and not plan.missing and not plan.resharded:
        # Read to its last byte: whoever asks for a compaction that nothing is due for wants to know, or to heal.
        problem = damage_of(store, plan.base)
        # Where entries of the log are lost, the version is committed again, after them.
        if not problem and end.lost and not try_commit(store, plan.base, (), plan.generation, run_id, marked=True):
            problem = "another writer committed meanwhile"
        if not problem:
            repair_pointer(store, spec.name)
            unmark(store, spec.name, plan.base.deltas)
            return Begun(None, plan.base, tuple(adoptions), plan.aside)
        log(f"snapshot {plan.base.id} is to be made again: {problem}")
    draft = _draft(
        store,
        spec,
        run_id,
        rebuild=rebuild,
        every_delta=every_delta or bool(again),
        without=tuple(without),
        again=again,
    )
    for other in draft.aside:
        log(str(other))
    return Begun(draft, None, tuple(adoptions), draft.aside)


def finish(
    store: ObjectStore, draft: Draft, done: Sequence[ShardDone], *, log: Log = lambda message: None
) -> Compaction:
    """Commit the shards of a draft as one version; to do so again changes nothing.

    Returns:
        What was done. Its manifest is None where the draft is of no use any more, or holds no record at all; then
        `lost_races` says whether another writer was faster, and whatever was made is removed.
    """
    deltas = {delta.id: delta for one in done for delta in one.deltas}
    ended = Compaction(
        None,
        united_merge([one.merged for one in done if one.merged]),
        tuple(deltas[name] for name in sorted(deltas)),
        lost_races=int(any(one.lost for one in done)),
        base=max((one.base for one in done if one.base), default=None),
        damages=tuple(dict.fromkeys(damage for one in done for damage in one.damages)),
        traffic=sum((one.traffic for one in done), NO_TRAFFIC),
        examined=united_examination([one.examined for one in done if one.examined]),
        aside=draft.aside,
    )
    again = next((one.again for one in done if one.again), "")
    if again or not any(one.manifest for one in done):
        for one in done:
            if one.manifest:
                withdraw(store, one.manifest)
        log(again or "there is no record to make a snapshot of")
        return ended
    made = unite(draft, done)
    try:
        require_kept(store, draft, made.deltas, made.count)
    except EmbeddingAssetsError:
        withdraw(store, made)
        raise
    manifest = commit_version(store, draft, done)
    if manifest is None:
        log(f"another writer committed generation {draft.generation} first; starting again from its snapshot")
        return replace(ended, lost_races=1)
    log(f"committed {manifest.id}")
    _move_rests_aside(store, draft, ended.damages, log)
    return replace(ended, manifest=manifest)


def _move_rests_aside(store: ObjectStore, draft: Draft, damages: Sequence[Damage], log: Log) -> None:
    """What is left of versions that have lost a shard; the other shards were what the new ones were made of."""
    for damage in damages:
        version, _, shard = damage.name.partition(".")
        if damage.kind == "snapshot" and shard:
            verdict = Verdict("corrupted", f"{shard}, which is aside, too: {damage.reason}")
            folder = layout.snapshots(draft.collection, version)
            plan = plan_quarantine(store, draft.collection, "snapshot", version, folder, verdict, draft.run_id)
            try:
                execute_quarantine(store, plan)
            except EmbeddingAssetsError as error:  # the new version counts already; the next audit moves it
                log(f"what is left of {version} was not moved aside: {error}")


def _draft(
    store: ObjectStore,
    spec: CollectionSpec,
    run_id: str,
    *,
    rebuild: bool,
    every_delta: bool,
    without: tuple[str, ...] = (),
    again: tuple[str, ...],
) -> Draft:
    """What is to be made; the end of the log is looked at first, so that whatever is committed later wins the race."""
    end = log_end(store, spec.name)
    found = [] if rebuild else bases(store, spec.name, end)
    # Where the log is lost, the newest version may be of a later generation than the log's end.
    generation, base = end.generation + 1, None
    for one in found:
        generation, base = max(generation, one.commit.generation + 1), one.manifest
        if base is not None:
            break
    inventory = look_for_missing(store, spec.name, end, base, every_delta=every_delta)
    held = set(base.deltas) - set(again) if base else set()
    lacking = sorted(d.ref(spec.name) for d in inventory.deltas if d.name not in held)
    kind = collection_kind(store, spec, end, base)
    missing, aside = sort_out(store, lacking, kind)
    for other in aside:  # the new version does not hold them, so they need their marks, whatever it is made from
        mark(store, spec.name, other.ref.day, other.ref.id)
    return Draft(
        spec.name,
        layout.new_version(generation),
        generation,
        end.generation,
        base.id if base else None,
        kind,
        missing,
        spec.shards,
        rebuild,
        run_id,
        aside,
        without,
        again,
    )


def _all_shards(
    store: ObjectStore, spec: CollectionSpec, draft: Draft, scratch: Path, cache_folder: Path | None, log: Log
) -> list[ShardDone]:
    """One after the other: each already uses all cores."""
    cache = Cache(cache_folder, store, spec.name) if cache_folder else None
    done: list[ShardDone] = []
    try:
        for shard in range(draft.shards):
            done.append(make_shard(store, spec, draft, shard, scratch=scratch, cache=cache, log=log))
            if done[-1].again:
                break
    except EmbeddingAssetsError:
        for one in done:
            if one.manifest:
                withdraw(store, one.manifest)
        raise
    return done
