"""Many writers and readers at once on one collection: what is committed counts, and a reader sees exactly that.

    python benchmarks/races.py [--store folder|s3] [--race damaged|"without grace"] [--seconds N] [--seed N]
                               [--shards N ...]

Processes of several threads each build deltas (some of batches that have a delta already, some that contest a record),
compact, prune, damage a delta or the current snapshot and repair, and read, all on the same collection and with the
same cache of copies, which is pruned, too; with `--shards`, each compaction makes as many as one of these numbers says.
Every read must be exactly one committed version, to the last record; readers that stay open over ten newer versions
must get the same answers all the time. In a second race nobody damages anything, but `prune --grace-hours 0` runs
beside all writers: they may fail with words that say so, and no version may be committed without its files.

When the time is up the pipeline's own work is done once more, and every record of a landed batch must be in the
snapshot, those that are contested as the last submitted batch has them.

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
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from race_actors import (
    KEEP,
    Actor,
    build,
    build_beside_prune,
    compact_beside_prune,
    compact_once,
    damage_and_repair,
    deliver,
    holder,
    prune_cache,
    prune_once,
    prune_without_grace,
    reader,
    watch,
)

from embedding_assets.reading import Collection
from embedding_assets.settings import S3Settings, Settings
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.cache import DamagedSnapshotWarning
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import list_deltas, readable_deltas
from embedding_assets.vectorstore.inventory import take_inventory
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.prune import execute_prune, plan_prune
from embedding_assets.vectorstore.verify import verify
from embedding_assets_tests.making import SPEC

ROLES = {
    "builder": build,
    "compactor": compact_once,
    "pruner": prune_once,
    "damager": damage_and_repair,
    "builder beside prune": build_beside_prune,
    "compactor beside prune": compact_beside_prune,
    "pruner without grace": prune_without_grace,
    "pruner of the cache": prune_cache,
    "watcher": watch,
}
# Processes: the role of each of its threads.
DAMAGED = [
    ("builder", "builder", "builder"),
    ("compactor", "compactor"),
    ("compactor", "compactor"),
    ("compactor", "pruner", "damager"),
    ("builder", "pruner", "pruner of the cache"),
    ("reader", "reader"),
    ("reader", "reader that stays"),
]
# Where nobody damages anything, whatever is committed is whole, however short the grace.
WITHOUT_GRACE = [
    ("builder beside prune", "builder beside prune"),
    ("compactor beside prune", "compactor beside prune"),
    ("compactor beside prune", "pruner without grace"),
    ("pruner of the cache", "watcher"),
    ("reader", "reader that stays"),
    ("reader that stays", "reader that stays"),
]
RACES = {"damaged": DAMAGED, "without grace": WITHOUT_GRACE}


def act(actor: Actor, role: str) -> None:
    """Do the same again and again until the time is up."""
    do = ROLES[role] if role in ROLES else (holder if role == "reader that stays" else reader)(actor)
    while time.time() < actor.deadline:
        try:
            do(actor)
        except Exception:
            actor.errors.append(f"{actor.name}: {traceback.format_exc(limit=-6)}")


def process(
    roles: Sequence[str],
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
    for position, role in enumerate(roles):
        name = f"{role.replace(' ', '-')}-{number}{position}"
        (folder / f"{number}" / name).mkdir(parents=True)
        rng = random.Random(f"{seed} {name}")
        actors.append(Actor(name, url, store, folder / f"{number}" / name, deadline, rng, Counter(), [], [], shards))
    threads = [threading.Thread(target=act, args=(actor, role)) for actor, role in zip(actors, roles, strict=True)]
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
    kind: str,
    processes: Sequence[Sequence[str]],
    url: str,
    s3: S3Settings | None,
    folder: Path,
    seconds: float,
    seed: int,
    shards: list[int],
) -> Counter[str]:
    """One race on a store of its own."""
    folder.mkdir()
    store = open_store(url, s3)
    first = {"id": "batch-first", "submitted": 1, "ids": ["first-0", "first-1"]}
    deliver(store, first, folder)
    compact(store, SPEC, run_id="races", scratch=folder)
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(len(processes))
    children = [
        context.Process(target=process, args=(roles, n, url, s3, folder, seconds, seed, shards, start))
        for n, roles in enumerate(processes)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    told = [one for n in range(len(processes)) for one in json.loads((folder / f"{n}.json").read_text())]
    batches = [first, *(batch for one in told for batch in one["landed"])]
    manifest = settle(store, batches, folder)
    lost = lost_records(store, url, batches, folder)
    execute_prune(store, plan_prune(store, SPEC.name, keep=KEEP, grace=timedelta(0)))
    left = plan_prune(store, SPEC.name, keep=KEEP, grace=timedelta(0)).garbage
    verdict = verify(store, manifest.key, SPEC, level="full", scratch=folder).verdict

    seen: Counter[str] = sum((Counter(one["seen"]) for one in told), Counter())
    errors = {one["name"]: one["errors"] for one in told if one["errors"]}
    print(f"on {kind}, {seconds:g} s, {len(batches)} batches:")
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
            "writers": sum(not role.startswith("reader") for roles in processes for role in roles),
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
    parser.add_argument("--race", choices=list(RACES), action="append", help="both unless given")
    parser.add_argument("--seconds", type=float, default=40, help="how long each race on each store")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shards", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="races-") as name:
        for number, (kind, how) in enumerate(
            (kind, how) for kind in arguments.store or ["folder", "s3"] for how in arguments.race or RACES
        ):
            (folder := Path(name) / str(number)).mkdir()
            with _store(kind, folder) as (url, s3):
                where = f"{'a folder' if kind == 'folder' else 'S3'}, {how}"
                total += race(
                    where, RACES[how], url, s3, folder / "race", arguments.seconds, arguments.seed, arguments.shards
                )
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
