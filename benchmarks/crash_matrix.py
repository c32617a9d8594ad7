"""Kills every step and command at each state that it leaves the store in, runs it again, and looks at what is left.

    python benchmarks/crash_matrix.py [--store folder|s3] [--only NAME] [--every N] [--reads]

A killed process does nothing more, not even clean up: from the chosen operation on every one of that process fails. It
is killed before its first operation that writes and after each of them; an operation that only reads leaves the store
as it found it, so that a death there is the same (`--reads` dies before and after those, too). Then a command of an
operator is run again, the pipeline does what it does by itself, everything is pruned without grace, and the invariants
must hold: no accepted record is missing from the snapshot, none stands in it twice, no batch was paid for twice, every
delta and the snapshot are whole, nothing is left behind, and a reader, at the moment of the crash and after it, sees
the version before or the version after.

The last line is `crash-matrix: N points, N failures`; the exit code is 1 if there is a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash_cases import CASES, Case
from crash_world import World
from mortal_store import Killed, MortalStore

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.catalog import CollectionSpec
from embedding_assets.sandbox import Sandbox
from embedding_assets.settings import ApiSettings, S3Settings
from embedding_assets.store import layout
from embedding_assets.store.objects import open_store

_EVERY_ON_S3 = 4
_AT_ONCE = 2


@dataclass
class Prepared:
    """What all points of a case start from, and what a reader may see at any of them."""

    world: World
    content: dict[str, bytes]
    allowed: list[Any]


class Matrix:
    """Runs the cases on stores of one kind."""

    def __init__(
        self, folder: Path, api: EmbeddingApi, url: str, s3: S3Settings | None, every: int, reads: bool
    ) -> None:
        self._folder, self._api, self._url, self._s3 = folder, api, url, s3
        self._every, self._reads = every, reads
        self.points = self.failures = 0

    def world(self) -> World:
        """A new, empty one."""
        made = layout.new_id()
        folder = self._folder / made
        (folder / "store").mkdir(parents=True)
        store = open_store(f"{self._url}/{made}", self._s3) if self._s3 else open_store(f"file://{folder}/store")
        spec = CollectionSpec(
            name="c" + made[-8:],
            model="wordllama-256",
            dimensions=64,
            documents=str(folder / "documents.jsonl"),
            batch_requests=4,
        )
        return World(store, self._api, spec, folder)

    def run(self, case: Case) -> None:
        """Count the operations of a case, then kill it at each."""
        began = time.monotonic()
        world = self.world()
        case.prepare(world)
        prepared = Prepared(world, world.content(), [world.read()])
        undisturbed = self._copy(case, prepared)
        counting = MortalStore(undisturbed.store, reads=self._reads)
        case.run(undisturbed, counting)
        prepared.allowed.append(undisturbed.read())
        if case.vanishes:
            prepared.allowed.append("none")
        after = [(number, True) for number in range(counting.operations)]
        before = [(number, False) for number in range(counting.operations if self._reads else 1)]
        points = sorted(before + after)[:: self._every]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            survived = list(pool.map(lambda point: self._survives(case, prepared, *point), points))
        failures = survived.count(False)
        self.points += len(points)
        self.failures += failures
        for one in (world, undisturbed):
            shutil.rmtree(one.folder, ignore_errors=True)
        of = f" of {len(before + after)}" if self._every > 1 else ""
        seconds = time.monotonic() - began
        print(f"  {case.name:30s} {len(points):4d}{of} points {failures:4d} failures {seconds:6.1f} s", flush=True)

    def _copy(self, case: Case, prepared: Prepared) -> World:
        world = self.world()
        if case.spends:
            case.prepare(world)
            return world
        return prepared.world.copy(prepared.content, world.store, world.folder)

    def _survives(self, case: Case, prepared: Prepared, number: int, after: bool) -> bool:
        world = self._copy(case, prepared)
        try:
            with contextlib.suppress(Killed):
                case.run(world, MortalStore(world.store, number, after=after, reads=self._reads))
            at_crash = world.read()
            if case.again:
                case.again(world, world.store)
            world.finish()
            # What the pipeline does by itself afterwards is the version after, too.
            problems = [*world.sweep(), *world.problems()]
            if at_crash not in prepared.allowed and at_crash != world.read():
                problems.append(f"at the crash a reader saw {sorted(at_crash)}")
        except Exception:
            problems = [traceback.format_exc(limit=-6)]
        shutil.rmtree(world.folder, ignore_errors=True)
        for problem in problems:
            print(f"  FAILED {case.name}, {'after' if after else 'before'} operation {number}: {problem}", flush=True)
        return not problems


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["folder", "s3"], action="append", help="both unless given")
    parser.add_argument("--only", help="cases whose name holds this")
    parser.add_argument("--every", type=int, help=f"only every n-th point; 1 on a folder, {_EVERY_ON_S3} on S3")
    parser.add_argument("--reads", action="store_true", help="before and after operations that only read, too")
    arguments = parser.parse_args()
    points = failures = 0
    with tempfile.TemporaryDirectory(prefix="crash-matrix-") as name:
        folder = Path(name)
        tempfile.tempdir = name
        with Sandbox.start(folder / "sandbox") as sandbox:
            api = EmbeddingApi(ApiSettings(sandbox.api_key, sandbox.base_url))
            for kind in arguments.store or ["folder", "s3"]:
                every = arguments.every or (1 if kind == "folder" else _EVERY_ON_S3)
                sampled = f", every {every}th point" if every > 1 else ""
                print(f"on {'a folder' if kind == 'folder' else 'S3'}{sampled}:", flush=True)
                with _stores(kind, folder) as (url, s3):
                    matrix = Matrix(folder, api, url, s3, every, arguments.reads)
                    for case in CASES:
                        if not arguments.only or arguments.only in case.name:
                            matrix.run(case)
                points, failures = points + matrix.points, failures + matrix.failures
    print(f"crash-matrix: {points} points, {failures} failures")
    sys.exit(1 if failures else 0)


@contextlib.contextmanager
def _stores(kind: str, folder: Path) -> Iterator[tuple[str, S3Settings | None]]:
    if kind == "folder":
        yield "", None
        return
    from embedding_assets_tests.s3_server import BUCKET, s3_server

    (folder / "s3").mkdir()
    with s3_server(folder / "s3") as server:
        yield f"s3://{BUCKET}", server.writer


if __name__ == "__main__":
    main()
