"""Proves, from what the store holds, that nothing is lost and nothing is damaged. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedding_assets.batches.landing import Landing, counting_landings
from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.child import ids_of_database
from embedding_assets.errors import UnreadableError
from embedding_assets.pipeline.cells import landings_without_delta
from embedding_assets.pipeline.conservation import accepted_records, held_origins
from embedding_assets.pipeline.gone import find_gone
from embedding_assets.pipeline.kinds import as_held
from embedding_assets.pipeline.log_walk import walk_log
from embedding_assets.records import shard_of
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.delta import DeltaRef, list_deltas
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.transfer import at_once
from embedding_assets.vectorstore.verify import Verification, verify

_NAMED = 100


@dataclass(frozen=True)
class DeltaProof:
    """One delta as the store holds it: what is wrong with it, or None; `manifest` is None where that is the problem.

    `remark` is what is to be told of one with which nothing is wrong.
    """

    ref: DeltaRef
    manifest: Manifest | None
    problem: str | None
    remark: str = ""


@dataclass(frozen=True)
class CellProof:
    """A cell's deltas, each read back and held against its manifest.

    Attributes:
        deltas: one by one.
        waiting: batches whose landed records no delta holds yet.
    """

    deltas: tuple[DeltaProof, ...]
    waiting: tuple[Landing, ...]

    @property
    def whole(self) -> bool:
        """Whether no delta is damaged."""
        return not any(proof.problem for proof in self.deltas)

    @property
    def set_aside(self) -> tuple[str, ...]:
        """The accepted records that no database takes, by name."""
        held = [proof.manifest for proof in self.deltas if proof.manifest]
        return tuple(one for manifest in held for entry in manifest.batches for one in entry.set_aside)


def prove_deltas(store: ObjectStore, spec: CollectionSpec, day: str) -> CellProof:
    """Read back every file of a cell's deltas, and see which landed batches no delta holds.

    Raises:
        StoreError: the store did not answer, or refuses; that says nothing of the deltas.
        UnreadableError: a delta could not be examined just now.
    """
    spec = as_held(store, spec)

    def prove(ref: DeltaRef, scratch: Path) -> DeltaProof:
        verified = verify(store, ref, spec, level="quick", scratch=scratch)
        _require_judged(verified)
        return DeltaProof(ref, verified.manifest, verified.verdict.reason or None, verified.verdict.remark)

    with ScratchFolder("verify") as scratch:
        # Two at a time: each has a child process that has loaded chromadb.
        proofs = at_once(lambda ref: prove(ref, scratch), list_deltas(store, spec.name, day), threads=2)
    held = [proof.manifest for proof in proofs if proof.manifest and not proof.problem]
    waiting = landings_without_delta(counting_landings(store, spec.name, day), held, spec)
    return CellProof(tuple(proofs), tuple(waiting))


@dataclass(frozen=True)
class SnapshotProof:
    """The current snapshot, downloaded, opened as a reader would, and held against everything that was accepted.

    Attributes:
        manifest: its manifest; None where there is no snapshot.
        problems: what is wrong with it, in words.
        accepted: ids that were accepted in any batch of the collection, but for batches that are set aside because
            they are of another model or dimension.
        waiting: accepted ids whose deltas are not compacted, or not built, yet.
        set_aside: accepted ids of compacted deltas that no database takes; the quarantine has them.
        lost: all other accepted ids of compacted deltas that are not in the snapshot, or only as an older batch had
            them; there must be none.
        unexplained: ids in the snapshot that no landed batch accepted, such as those of legacy deltas.
        damaged_landings: batches whose landed result can no longer be read, so that their ids could not be compared.
        found, sampled: records that were searched for by their own vector, and found.
        recall: which part of the ten nearest the searches gave; None where nothing was searched for.
        remark: what is to be told of it although it is whole.
        gone: the deltas that are gone though it was made of them, and what each can be made again of, in words.
    """

    manifest: Manifest | None
    problems: tuple[str, ...] = ()
    accepted: int = 0
    waiting: int = 0
    set_aside: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    unexplained: tuple[str, ...] = ()
    damaged_landings: tuple[str, ...] = ()
    found: int = 0
    sampled: int = 0
    recall: float | None = None
    remark: str = ""
    gone: tuple[str, ...] = ()

    @property
    def conserved(self) -> bool:
        """Whether every accepted id is in the snapshot or waiting to be compacted."""
        return not self.lost


def prove_snapshot(store: ObjectStore, spec: CollectionSpec, scratch: Path) -> SnapshotProof:
    """Prove the current snapshot whole, and that it holds every id that was accepted; begins where a reader does.

    Args:
        store, spec: the collection.
        scratch: an existing folder on a disk with room for the snapshot.

    Raises:
        StoreError: the store did not answer, or refuses; that says nothing of the snapshot.
        UnreadableError: it could not be examined just now.
    """
    spec = as_held(store, spec)
    # The manifest that the way ends at is judged below.
    way = [row for row in walk_log(store, spec.name) if row["kind"] != "snapshot"]
    problems = [f"{row['name']}: {row['reason']}" for row in way if row["verdict"] == "corrupted"]
    commit = head(store, spec.name)
    if commit is None:
        return SnapshotProof(None, tuple(problems))
    verified = verify(store, commit, spec, level="full", scratch=scratch, keep_copy=True)
    _require_judged(verified)
    manifest, examined = verified.manifest, verified.examination
    if manifest is None or examined is None or verified.copy is None or verified.verdict.kind != "valid":
        return SnapshotProof(None, (*problems, verified.verdict.reason))
    held: set[str] = set()
    for number, part in enumerate(manifest.parts):
        if part is None:
            continue
        ids = ids_of_database(verified.copy / part.shard, spec.name)
        misplaced = sum(shard_of(i, len(manifest.parts)) != number for i in ids) if part.shard else 0
        if misplaced:
            problems.append(f"{misplaced} records of {part.shard} belong to another shard")
        held.update(ids)
    accepted = accepted_records(store, spec, manifest)
    compacted = {one for claim in accepted.claims for one in claim.ids}
    origins = held_origins(verified.copy, manifest)
    lost = {one for some in accepted.lost(origins).values() for one in some}
    return SnapshotProof(
        manifest,
        tuple(problems),
        accepted=len(compacted | accepted.waiting | accepted.aside),
        waiting=len(accepted.waiting - held),
        set_aside=tuple(sorted(accepted.aside)),
        lost=tuple(sorted(lost)),
        unexplained=tuple(sorted(held - compacted)[:_NAMED]),
        damaged_landings=tuple(accepted.damaged),
        found=examined.found,
        sampled=examined.sampled,
        recall=examined.recall,
        remark=verified.verdict.remark,
        gone=tuple(str(one) for one in find_gone(store, spec, scratch)),
    )


def _require_judged(verified: Verification) -> None:
    if verified.verdict.kind == "unknown":
        reason, remedy = verified.verdict.reason, "It is examined again by the next run."
        raise verified.cause or UnreadableError(verified.subject, reason, remedy)
