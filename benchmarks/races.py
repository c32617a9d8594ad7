"""Many writers and readers at once on one collection: what is committed counts, and a reader sees exactly that.

    python benchmarks/races.py [--store folder|s3] [--seconds N] [--seed N] [--shards N ...]

Processes of several threads each build deltas (some of batches that have a delta already, some that contest a record),
compact, prune, damage a delta or the current snapshot and repair, and read, all on the same collection and with the
same cache of copies; with `--shards`, each compaction makes as many as one of these numbers says. Every read must be
exactly one committed version, to the last record. When the time is up the pipeline's own work is done once more, and
every record of a landed batch must be in the snapshot, those that are contested as the last submitted batch has them.

The last line is `races: N writers, N commits, N lost, N reader errors`; the exit code is 1 if something was lost, a
reader met an error, or a writer failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import random
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from embedding_assets.chroma.api import read_pages
from embedding_assets.errors import CommitConflictError, ObjectMissingError
from embedding_assets.pipeline.operations import repair
from embedding_assets.reading import Collection
from embedding_assets.records import digest_of
from embedding_assets.settings import S3Settings, Settings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.cache import DamagedSnapshotWarning
from embedding_assets.vectorstore.commit import head, load_commit, load_snapshot
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import LandedBatch, build_delta, list_deltas, readable_deltas
from embedding_assets.vectorstore.inventory import take_inventory
from embedding_assets.vectorstore.manifest import Manifest, load_manifest
from embedding_assets.vectorstore.prune import execute_prune, plan_prune
from embedding_assets.vectorstore.verify import verify
from embedding_assets_tests.making import SPEC, landed

DAY = "2026-03-04"
GRACE = timedelta(seconds=30)  # several times what a writer takes from its first object to its last
KEEP = 3
_READ_EVERY = 0.2  # seconds
# Processes: the role of each of its threads.
PROCESSES = [
    ("builder", "builder", "builder"),
    ("compactor", "compactor"),
    ("compactor", "compactor"),
    ("compactor", "pruner", "damager"),
    ("builder", "pruner"),
    ("reader", "reader"),
    ("reader",),
]


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


def compact_once(actor: Actor) -> None:
    """Compact; five lost races in a row are nobody's fault."""
    try:
        spec = SPEC.model_copy(update={"shards": actor.random.choice(actor.shards)})
        cache = actor.folder.parent / "cache"
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
    settings = Settings("races", actor.url, Path("unused"), actor.folder.parent / "cache")
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


def act(actor: Actor, role: str) -> None:
    """Do the same again and again until the time is up."""
    roles = {"builder": build, "compactor": compact_once, "pruner": prune_once, "damager": damage_and_repair}
    do = roles.get(role) or reader(actor)
    while time.time() < actor.deadline:
        try:
            do(actor)
        except Exception:
            actor.errors.append(f"{actor.name}: {traceback.format_exc(limit=-6)}")


def process(
    number: int,
    url: str,
    s3: S3Settings | None,
    folder: Path,
    seconds: float,
    seed: int,
    shards: list[int],
    start: Any,
) -> None:
    """One process: its threads, and what they have seen as a file."""
    warnings.simplefilter("ignore", DamagedSnapshotWarning)
    store = open_store(url, s3)
    start.wait()  # importing takes its time
    deadline = time.time() + seconds
    actors = []
    for position, role in enumerate(PROCESSES[number]):
        name = f"{role}-{number}{position}"
        (folder / f"{number}" / name).mkdir(parents=True)
        rng = random.Random(f"{seed} {name}")
        actors.append(Actor(name, url, store, folder / f"{number}" / name, deadline, rng, Counter(), [], [], shards))
    threads = [
        threading.Thread(target=act, args=(actor, role)) for actor, role in zip(actors, PROCESSES[number], strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [{"name": a.name, "seen": a.seen, "errors": a.errors, "landed": a.landed} for a in actors]
    (folder / f"{number}.json").write_text(json.dumps(told))


def settle(store: ObjectStore, batches: list[dict[str, Any]], folder: Path) -> Manifest:
    """What the pipeline does by itself: compact, build what no delta holds any more, compact."""
    compact(store, SPEC, run_id="races", scratch=folder)
    for ref in list_deltas(store, SPEC.name):
        found = verify(store, ref, SPEC, level="quick", scratch=folder).verdict
        if found.kind != "valid":  # compacted before it was damaged; what a cell run or an audit moves aside
            store.delete([ref.key])
    deltas = readable_deltas(store, list_deltas(store, SPEC.name))
    held = {entry.batch_id for delta in deltas for entry in delta.batches}
    for batch in batches:
        if batch["id"] not in held:
            deliver(store, batch, folder)
    done = compact(store, SPEC, run_id="races", scratch=folder)
    assert done is not None and done.manifest is not None
    return done.manifest


def lost_records(store: ObjectStore, url: str, batches: list[dict[str, Any]], folder: Path) -> list[str]:
    """Ids of landed batches that the snapshot lacks, or has of a batch that was not the last submitted."""
    wanted: dict[str, str] = {}
    for batch in sorted(batches, key=lambda one: (one["submitted"], one["id"])):
        wanted.update(dict.fromkeys(batch["ids"], batch["id"]))
    with Collection(store, SPEC, Settings("races", url, Path("unused"), folder / "cache")) as lines:
        held = {record.id: (record.batch_id, record.document) for record in lines.get()}
    return [i for i, batch in wanted.items() if held.get(i) != (batch, f"{batch} {i}")] + sorted(held.keys() - wanted)


def race(
    kind: str, url: str, s3: S3Settings | None, folder: Path, seconds: float, seed: int, shards: list[int]
) -> Counter[str]:
    """One race on a store of its own."""
    folder.mkdir()
    store = open_store(url, s3)
    first = {"id": "batch-first", "submitted": 1, "ids": ["first-0", "first-1"]}
    deliver(store, first, folder)
    compact(store, SPEC, run_id="races", scratch=folder)
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(len(PROCESSES))
    children = [
        context.Process(target=process, args=(n, url, s3, folder, seconds, seed, shards, start))
        for n in range(len(PROCESSES))
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    told = [one for n in range(len(PROCESSES)) for one in json.loads((folder / f"{n}.json").read_text())]
    batches = [first, *(batch for one in told for batch in one["landed"])]
    manifest = settle(store, batches, folder)
    lost = lost_records(store, url, batches, folder)
    execute_prune(store, plan_prune(store, SPEC.name, keep=KEEP, grace=timedelta(0)))
    left = plan_prune(store, SPEC.name, keep=KEEP, grace=timedelta(0)).garbage
    verdict = verify(store, manifest.key, SPEC, level="full", scratch=folder).verdict

    seen: Counter[str] = sum((Counter(one["seen"]) for one in told), Counter())
    errors = {one["name"]: one["errors"] for one in told if one["errors"]}
    print(f"on {'a folder' if kind == 'folder' else 'S3'}, {seconds:g} s, {len(batches)} batches:")
    for what, count in sorted(seen.items()):
        print(f"  {what:30s} {count:6d}")
    for name, texts in errors.items():
        print(f"  {name}: {len(texts)} errors, the first: {texts[0]}")
    for problem in [f"lost {i}" for i in lost[:10]] + [f"left by prune: {one.folder.prefix}" for one in left]:
        print(f"  {problem}")
    if verdict.kind != "valid":
        print(f"  the snapshot is {verdict.kind}: {verdict.reason}")
    reader_errors = sum(len(texts) for name, texts in errors.items() if name.startswith("reader"))
    return Counter(
        {
            "writers": sum(not role.startswith("reader") for roles in PROCESSES for role in roles),
            "commits": len(take_inventory(store, SPEC.name).commits),
            "lost": len(lost),
            "reader errors": reader_errors,
            "failures": sum(map(len, errors.values())) - reader_errors + len(left) + (verdict.kind != "valid"),
        }
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["folder", "s3"], action="append", help="both unless given")
    parser.add_argument("--seconds", type=float, default=75, help="how long on each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shards", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="races-") as name:
        for kind in arguments.store or ["folder", "s3"]:
            with _store(kind, Path(name)) as (url, s3):
                total += race(kind, url, s3, Path(name) / kind, arguments.seconds, arguments.seed, arguments.shards)
    if total["failures"]:
        print(f"{total['failures']} failures of writers")
    print(
        f"races: {total['writers']} writers, {total['commits']} commits, {total['lost']} lost, "
        f"{total['reader errors']} reader errors"
    )
    sys.exit(1 if total["lost"] or total["reader errors"] or total["failures"] else 0)


@contextlib.contextmanager
def _store(kind: str, folder: Path) -> Iterator[tuple[str, S3Settings | None]]:
    if kind == "folder":
        (folder / "store").mkdir()
        yield f"file://{folder}/store", None
        return
    from embedding_assets_tests.s3_server import BUCKET, s3_server

    (folder / "server").mkdir()
    with s3_server(folder / "server") as server:
        yield f"s3://{BUCKET}/races", server.writer


if __name__ == "__main__":
    main()
