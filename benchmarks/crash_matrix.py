"""Kills every step and command before and after each of its store operations, runs it again, and looks at what is left.

    python benchmarks/crash_matrix.py [--store folder|s3] [--only NAME]

A killed process does nothing more, not even clean up: after the chosen operation every further one of that process
fails. Then everything is run again, and the invariants must hold: no accepted record is missing from the snapshot, none
stands in it twice, no batch was paid for twice, every delta and the snapshot are whole, and a reader, at the moment of
the crash and after it, sees the version before or the version after.

The last line is `crash-matrix: N points, N failures`; the exit code is 1 if there is a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.pipeline.cells import build_cell_deltas, land_cell, submit_cell
from embedding_assets.pipeline.pending import cells_to_run
from embedding_assets.pipeline.proofs import prove_deltas, prove_snapshot
from embedding_assets.reading import Collection
from embedding_assets.sandbox import Sandbox
from embedding_assets.settings import ApiSettings, S3Settings, Settings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, StoredObject, open_store
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.compact import compact

RECORDS = 6


class Killed(BaseException):
    """The process is dead; not an Exception, so that nothing takes it for trouble of the store."""


class MortalStore(ObjectStore):
    """A store whose process dies before or after its n-th operation; then no operation of it happens any more."""

    def __init__(self, store: ObjectStore, dies_at: int | None = None, after: bool = False) -> None:
        super().__init__(store._backend, store.url)
        self.operations = 0
        self.dies_at, self.after, self.dead = dies_at, after, False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def _operation(self) -> Iterator[None]:
        with self._lock:
            number = self.operations
            self.operations += 1
            if self.dead or (number == self.dies_at and not self.after):
                self.dead = True
                raise Killed
        yield
        if number == self.dies_at:
            self.dead = True
        if self.dead:
            raise Killed

    def put_new(self, key: str, data: bytes) -> None:
        with self._operation():
            super().put_new(key, data)

    def replace(self, key: str, data: bytes) -> None:
        with self._operation():
            super().replace(key, data)

    def upload(self, key: str, path: Path) -> None:
        with self._operation():
            super().upload(key, path)

    def get(self, key: str) -> bytes:
        with self._operation():
            return super().get(key)

    def exists(self, key: str) -> bool:
        with self._operation():
            return super().exists(key)

    def download(self, key: str, path: Path) -> str:
        with self._operation():
            return super().download(key, path)

    def sha256(self, key: str) -> tuple[int, str]:
        with self._operation():
            return super().sha256(key)

    def walk(self, prefix: str, after: str | None = None) -> Iterator[StoredObject]:
        with self._operation():
            found = list(super().walk(prefix, after))
        yield from found

    def folders(self, prefix: str) -> list[str]:
        with self._operation():
            return super().folders(prefix)

    def delete(self, keys: Any) -> None:
        for key in list(keys):  # one by one: a process can die between two of them
            with self._operation():
                super().delete([key])


@dataclass
class World:
    """One collection in a store of its own, with the real batch service."""

    store: ObjectStore
    api: EmbeddingApi
    spec: CollectionSpec
    folder: Path
    day: str = field(default_factory=lambda: str(layout.now().date()))

    def submit(self, store: ObjectStore) -> None:
        submit_cell(self.api, store, self.spec, self.day)

    def land(self, store: ObjectStore) -> None:
        land_cell(self.api, store, self.spec, self.day)

    def build(self, store: ObjectStore) -> None:
        build_cell_deltas(store, self.spec, self.day, run_id="crash-matrix", scratch=self.scratch())

    def compact(self, store: ObjectStore) -> None:
        compact(store, self.spec, run_id="crash-matrix", scratch=self.scratch())

    def scratch(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def settle(self) -> None:
        deadline = time.monotonic() + 60
        while any(not batch.ended for batch in self._batches()):
            if time.monotonic() > deadline:
                raise RuntimeError("the batch service does not finish")
            time.sleep(0.02)

    def write_documents(self, first: int, last: int) -> None:
        with (self.folder / "documents.jsonl").open("a") as file:
            for i in range(first, last):
                document = {"id": f"id-{i}", "text": f"text {i} of {self.spec.name}", "metadata": {"n": i}}
                file.write(json.dumps(document) + "\n")

    def finish(self) -> None:
        """Everything that the pipeline does by itself, until there is nothing left to do."""
        for _ in range(3):
            self.submit(self.store)
            self.settle()
            self.land(self.store)
            self.build(self.store)
            self.compact(self.store)
            if not cells_to_run(self.api, self.store, Catalog(collections={self.spec.name: self.spec}))[0]:
                return
        raise RuntimeError("there is still something to do")

    def copy(self, store: ObjectStore, folder: Path) -> World:
        """The same world in another store: what was asked and paid for is the same."""
        for item in self.store.walk(""):
            self.store.download(item.key, folder / "copied")
            store.upload(item.key, folder / "copied")
        shutil.copy(self.folder / "documents.jsonl", folder)
        spec = self.spec.model_copy(update={"documents": str(folder / "documents.jsonl")})
        return World(store, self.api, spec, folder, self.day)

    def _batches(self) -> list[Any]:
        return [b for b in self.api.list_batches() if b.metadata.get("collection") == self.spec.name]

    def version(self) -> str | None:
        commit = head(self.store, self.spec.name)
        return commit.version if commit else None

    def read(self) -> dict[str, str]:
        """What a reader sees now: id to document."""
        settings = Settings("crash", self.store.url, Path("unused"), self.scratch())
        with Collection(self.store, self.spec, settings) as collection:
            return {record.id: record.document for record in collection.get()}

    def problems(self, expected: int) -> list[str]:
        """The invariants that do not hold, in words."""
        found = []
        deltas = prove_deltas(self.store, self.spec, self.day)
        found += [f"delta {d.ref.id}: {d.problem}" for d in deltas.deltas if d.problem]
        found += [f"batch {landing.batch_id} is in no delta" for landing in deltas.waiting]
        proof = prove_snapshot(self.store, self.spec, self.scratch())
        found += list(proof.problems) + [f"lost {i}" for i in proof.lost]
        seen = self.read()
        if seen != {f"id-{i}": f"text {i} of {self.spec.name}" for i in range(expected)}:
            found.append(f"the snapshot holds {sorted(seen)}")
        paid = sum(batch.requests[1] for batch in self._batches())
        if paid != expected:
            found.append(f"{paid} embeddings were paid for, not {expected}")
        return found


Step = Callable[[World, ObjectStore], None]


@dataclass(frozen=True)
class Case:
    """One step or command: what must have happened before it, and what it does.

    `spends`: it changes what the batch service holds, so that each point needs documents of its own.
    """

    name: str
    prepare: Callable[[World], None]
    run: Step
    spends: bool = False


def _submitted(world: World) -> None:
    world.write_documents(0, RECORDS)
    world.submit(world.store)
    world.settle()


def _landed(world: World) -> None:
    _submitted(world)
    world.land(world.store)


def _built(world: World) -> None:
    _landed(world)
    world.build(world.store)


def _grown(world: World) -> None:
    """A snapshot, and a delta that it lacks."""
    _built(world)
    world.compact(world.store)
    world.write_documents(RECORDS, RECORDS + 3)
    world.submit(world.store)
    world.settle()
    world.land(world.store)
    world.build(world.store)


CASES = [
    Case("embedding_requests", lambda world: world.write_documents(0, RECORDS), World.submit, spends=True),
    Case("batch_results", _submitted, World.land),
    Case("deltas", _landed, World.build),
    Case("snapshots, the first", _built, World.compact),
    Case("snapshots, the next", _grown, World.compact),
]


class Matrix:
    """Runs the cases on stores of one kind."""

    def __init__(self, folder: Path, api: EmbeddingApi, url: str, s3: S3Settings | None) -> None:
        self._folder, self._api, self._url, self._s3 = folder, api, url, s3
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
        prepared = self.world()
        case.prepare(prepared)
        world = self._copy(case, prepared)
        counting = MortalStore(world.store)
        case.run(world, counting)
        failures = 0
        for point in range(counting.operations):
            for after in (False, True):
                failures += not self._survives(case, prepared, point, after)
        self.points += 2 * counting.operations
        self.failures += failures
        shutil.rmtree(prepared.folder, ignore_errors=True)
        print(f"  {case.name:28s} {2 * counting.operations:5d} points {failures:4d} failures", flush=True)

    def _copy(self, case: Case, prepared: World) -> World:
        world = self.world()
        if case.spends:
            case.prepare(world)
            return world
        return prepared.copy(world.store, world.folder)

    def _survives(self, case: Case, prepared: World, point: int, after: bool) -> bool:
        world = self._copy(case, prepared)
        try:
            before = world.read() if world.version() else None
            with contextlib.suppress(Killed):
                case.run(world, MortalStore(world.store, point, after))
            at_crash = world.read() if world.version() else None
            world.finish()
            lines = (world.folder / "documents.jsonl").read_text().splitlines()
            problems = world.problems(len(lines))
            if at_crash is not None and at_crash not in (before, world.read()):
                problems.append(f"at the crash a reader saw {sorted(at_crash)}")
        except Exception:
            problems = [traceback.format_exc(limit=-5)]
        shutil.rmtree(world.folder, ignore_errors=True)
        for problem in problems:
            print(f"  FAILED {case.name}, {'after' if after else 'before'} operation {point}: {problem}", flush=True)
        return not problems


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["folder", "s3"], action="append", help="both unless given")
    parser.add_argument("--only", help="cases whose name holds this")
    arguments = parser.parse_args()
    points = failures = 0
    with tempfile.TemporaryDirectory(prefix="crash-matrix-") as name:
        folder = Path(name)
        tempfile.tempdir = name
        with Sandbox.start(folder / "sandbox") as sandbox:
            api = EmbeddingApi(ApiSettings(sandbox.api_key, sandbox.base_url))
            for kind in arguments.store or ["folder", "s3"]:
                print(f"on {'a folder' if kind == 'folder' else 'S3'}:", flush=True)
                with _stores(kind, folder) as (url, s3):
                    matrix = Matrix(folder, api, url, s3)
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
