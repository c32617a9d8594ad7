"""Who takes part in the races: builders, compactors, pruners, damagers, and readers of two kinds."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from embedding_assets.chroma.api import read_pages
from embedding_assets.errors import CommitConflictError, CorruptedError, EmbeddingAssetsError, ObjectMissingError
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.this_machine import prune_scratch
from embedding_assets.reading import Collection
from embedding_assets.records import digest_of
from embedding_assets.settings import Settings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import head, load_commit, load_snapshot, log_end
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import LandedBatch, build_delta, list_deltas
from embedding_assets.vectorstore.inventory import take_inventory
from embedding_assets.vectorstore.manifest import Manifest, load_manifest
from embedding_assets.vectorstore.prune import execute_prune, plan_prune
from embedding_assets.vectorstore.transfer import incomplete
from embedding_assets_tests.making import SPEC, landed

DAY = "2026-03-04"
GRACE = timedelta(seconds=30)  # several times what a writer takes from its first object to its last
KEEP = 3
_READ_EVERY = 0.2  # seconds
_PRUNE_EVERY = 6.0  # seconds at most
VERSIONS_HELD = 10  # newer ones that come while a reader holds one


@dataclass
class Actor:
    """One thread: what it works on, and what it has seen."""

    name: str
    url: str
    store: ObjectStore
    folder: Path
    deadline: float
    random: random.Random
    seen: Counter[str]
    errors: list[str]
    landed: list[dict[str, Any]]
    shards: list[int]

    def scratch(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))


def build(actor: Actor) -> None:
    """A new batch, or one that was built before, polled anew."""
    if actor.landed and actor.random.random() < 0.3:
        batch = actor.random.choice(actor.landed)
        actor.seen["polled again"] += 1
    else:
        number = len(actor.landed)
        batch = {
            "id": f"batch-{actor.name}-{number}",
            "submitted": 1000 + actor.random.randrange(1_000_000),
            "ids": [*(f"{actor.name}-{number}-{i}" for i in range(3)), f"contested-{actor.random.randrange(4)}"],
        }
        actor.landed.append(batch)
    deliver(actor.store, batch, actor.scratch())
    actor.seen["deltas"] += 1


def deliver(store: ObjectStore, batch: dict[str, Any], folder: Path) -> None:
    """A delta of a landed batch."""
    made: LandedBatch = landed(folder, batch["id"], batch["ids"], submitted=batch["submitted"], text=batch["id"])
    build_delta(store, SPEC, DAY, [replace(made, landing_id=layout.new_id())], run_id="races", scratch=folder)


def build_beside_prune(actor: Actor) -> None:
    """The same where work may be pruned under it: that has to be told, and the batch is built another time."""
    try:
        build(actor)
    except EmbeddingAssetsError as error:
        if not _pruned_under(error):
            raise
        actor.seen["builders that told of it"] += 1


def compact_beside_prune(actor: Actor) -> None:
    """The same for a compaction."""
    try:
        compact_once(actor)
    except EmbeddingAssetsError as error:
        if not _pruned_under(error):
            raise
        actor.seen["compactors that told of it"] += 1


def _pruned_under(error: EmbeddingAssetsError) -> bool:
    return "Nothing was committed" in error.remedy or "was not committed" in error.reason


def compact_once(actor: Actor) -> None:
    """Compact; five lost races in a row are nobody's fault."""
    try:
        spec = SPEC.model_copy(update={"shards": actor.random.choice(actor.shards)})
        cache = actor.folder.parent.parent / "cache"
        done = compact(actor.store, spec, run_id=actor.name, scratch=actor.scratch(), cache_folder=cache)
    except CommitConflictError:
        actor.seen["gave up after five lost races"] += 1
        return
    actor.seen["compactions"] += done is not None and done.merged is not None
    actor.seen["lost races"] += done.lost_races if done else 0
    if done and done.merged and done.manifest:
        actor.seen[f"snapshots of {len(done.manifest.parts)} shards"] += 1
    actor.seen["healed by compaction"] += len(done.damages) if done else 0


def prune_once(actor: Actor) -> None:
    """Prune."""
    done = execute_prune(actor.store, plan_prune(actor.store, SPEC.name, keep=KEEP, grace=GRACE))
    actor.seen["pruned"] += len(done.removed)
    actor.errors += [f"not pruned: {reason}" for reason in done.failed.values()]


def prune_without_grace(actor: Actor) -> None:
    """`prune --grace-hours 0`, which is told to wait for nobody."""
    done = execute_prune(actor.store, plan_prune(actor.store, SPEC.name, keep=KEEP, grace=timedelta(0)))
    actor.seen["pruned without grace"] += len(done.removed)
    actor.errors += [f"not pruned: {reason}" for reason in done.failed.values()]
    threading.Event().wait(actor.random.random() * _PRUNE_EVERY)  # or no writer ever comes to its end


def watch(actor: Actor) -> None:
    """Whatever version is current has its manifest and all its files."""
    end = log_end(actor.store, SPEC.name)
    if end.head is None:
        return
    problem = ""
    try:
        manifest = load_snapshot(actor.store, SPEC.name, end.head)
        for part in manifest.databases:
            problem = (
                problem or incomplete(actor.store, part) or ("" if actor.store.exists(part.key) else "no manifest")
            )
    except CorruptedError as error:
        problem = error.reason
    # What is not current any more may be pruned while it is looked at.
    if problem and log_end(actor.store, SPEC.name) == end:
        raise AssertionError(f"{end.head.version} is committed, and {problem}")
    actor.seen["looks at the current version"] += 1
    threading.Event().wait(_READ_EVERY / 4)


def prune_cache(actor: Actor) -> None:
    """Remove what dead readers left, and copies that nobody holds open, from the cache that all share."""
    cache = actor.folder.parent.parent / "cache"
    prune_scratch(cache).execute()
    copies = sorted(cache.glob("*/*/.verified/*"))
    if copies:
        shutil.rmtree(actor.random.choice(copies), ignore_errors=True)
        actor.seen["cached copies removed"] += 1
    threading.Event().wait(_READ_EVERY * 2)


def holder(actor: Actor) -> Callable[[Actor], None]:
    """A program that stays at one version while ten newer ones come, and gets the same answers all the time."""
    settings = Settings("races", actor.url, Path("unused"), actor.folder.parent.parent / "cache")
    question = np.random.default_rng(actor.random.randrange(1000)).standard_normal(SPEC.dimensions).astype(np.float32)
    state: list[tuple[Collection, list[Any], list[Any]]] = []

    def answers(lines: Collection) -> tuple[list[Any], list[Any]]:
        got = sorted((one.id, one.document, one.batch_id) for one in lines.get())
        # Two that are equally near may change places.
        asked = sorted((round(one.distance or 0.0, 5), one.id) for one in lines.query(embedding=question, n=5))
        return got, asked

    def hold(actor: Actor) -> None:
        if not state:
            lines = Collection(actor.store, SPEC, settings)
            state.append((lines, *answers(lines)))
            digest = digest_of(page for shard in lines._opened for page in read_pages(shard.handle))
            if (digest.count, digest.hex()) != (lines.manifest.count, lines.manifest.digest):
                raise AssertionError(f"{lines.version} was opened with other records than it has")
        lines, got, asked = state[0]
        newer = log_end(actor.store, SPEC.name).generation - (layout.generation_of(lines.version) or 0)
        now = answers(lines)
        if (now[0], [far for far, _ in now[1]]) != (got, [far for far, _ in asked]) or len(got) != lines.manifest.count:
            raise AssertionError(f"{lines.version} answers otherwise after {newer} newer versions")
        actor.seen["answers of a version that is held"] += 1
        if newer >= VERSIONS_HELD:
            actor.seen[f"held over {VERSIONS_HELD} newer versions"] += 1
            state.pop()[0].close()
        threading.Event().wait(_READ_EVERY)

    return hold


def damage_and_repair(actor: Actor) -> None:
    """Change a byte of the current snapshot or of a delta, and repair, or leave it to whoever compacts next."""
    manifest: Manifest
    try:
        commit = head(actor.store, SPEC.name)
        whole = len(take_inventory(actor.store, SPEC.name).snapshots)
        if actor.random.random() < 0.4 and commit and whole >= KEEP:
            manifest = load_snapshot(actor.store, SPEC.name, commit)
        else:
            manifest = load_manifest(actor.store, actor.random.choice(list_deltas(actor.store, SPEC.name)[-3:]).key)
        largest = max(manifest.files, key=lambda entry: entry.size)
        content = bytearray(actor.store.get(f"{manifest.folder}/{largest.path}"))
    except (ObjectMissingError, IndexError):  # gone, or there is none yet
        return
    content[len(content) // 2] ^= 1
    actor.store.replace(f"{manifest.folder}/{largest.path}", bytes(content))
    actor.seen[f"damaged {manifest.kind}s"] += 1
    if actor.random.random() < 0.5:
        with contextlib.suppress(CommitConflictError):
            repair(actor.store, SPEC, level="quick", run_id=actor.name, scratch=actor.scratch()).execute()
            actor.seen["repairs"] += 1


def reader(actor: Actor) -> Callable[[Actor], None]:
    """A program that has the collection open and refreshes it; now and then it is started anew."""
    settings = Settings("races", actor.url, Path("unused"), actor.folder.parent.parent / "cache")
    state: list[Collection] = []

    def read(actor: Actor) -> None:
        if state and actor.random.random() < 0.1:
            state.pop().close()
        if state:
            actor.seen["refreshed"] += state[0].refresh()
        else:
            state.append(Collection(actor.store, SPEC, settings))
        lines = state[0]
        manifest = lines.manifest
        commit = load_commit(actor.store, SPEC.name, layout.generation_of(manifest.id) or 0)
        if commit is None or commit.version != manifest.id:
            raise AssertionError(f"{manifest.id} was never committed")
        digest = digest_of(page for shard in lines._opened for page in read_pages(shard.handle))
        if (lines.count(), digest.count, digest.hex()) != (manifest.count, manifest.count, manifest.digest):
            raise AssertionError(f"{manifest.id} holds {manifest.count} records; read were {lines.count()}, others")
        actor.seen["reads"] += 1
        threading.Event().wait(_READ_EVERY)  # the writers need the processor, too

    return read
