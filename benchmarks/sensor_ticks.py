"""What a tick of the sensor of batches costs: seconds, API calls and store requests, by the number of batches known.

    PYTHONPATH=. python benchmarks/sensor_ticks.py [--store folder|s3] [--known 10 1000 10000]

A fifth of the batches is under way; as many have finished today and yesterday, are landed and in deltas; the others
are the history of two years. The API is the sandbox with that list, asked through the real client; the store is a real
one with their records. The files that a tick does not read are of a few bytes.

- `first`: without a cursor, in a process that knows nothing;
- `usual`: nothing has changed;
- `hourly`: everything is looked at again;
- `finished`: the oldest batch under way has finished: the ticks until its cell is asked for;
- `restart`: as `usual`, in a process that knows nothing but the cursor.

Each row is one round, of as many ticks as it takes; seconds, calls and requests are those of its dearest tick.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource
from planning import CountingBackend

from embedding_assets.batches import discover
from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.files import StoredFile, in_parallel
from embedding_assets.batches.landing import Landing
from embedding_assets.batches.position import Position
from embedding_assets.batches.requests import SentBatch
from embedding_assets.batches.submit import COLLECTION_KEY, DAY_KEY, REQUEST_KEY
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.orchestration.assemble import build_definitions
from embedding_assets.orchestration.resources import ApiResource, StoreResource
from embedding_assets.pipeline import undelivered
from embedding_assets.sandbox import Sandbox
from embedding_assets.sandbox.contents import new_id
from embedding_assets.sandbox.index import Index
from embedding_assets.sandbox.state import BatchRecord
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.store.sealed import encode
from embedding_assets.vectorstore.manifest import BatchEntry, FileEntry, Manifest
from embedding_assets_tests.s3_server import BUCKET, s3_server

SPEC = CollectionSpec(name="lines", model="wordllama-256", dimensions=64)
_HISTORY_DAYS = 730
_HOUR = 3600
_FILE = StoredFile("a-file", 11, "0" * 64)
_BATCHES_IN_A_DELTA = 50


@dataclass
class World:
    """What the API and the store know."""

    batches: list[BatchRecord] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)

    def add(self, created: float, status: str, landed: bool) -> Landing | None:
        """One batch with its record, and its landing if it has one."""
        at, day, request_id = int(created), layout.day_of(created), new_id("")
        batch = BatchRecord(
            id=new_id("batch_"),
            created_at=at,
            input_file_id=new_id("file-"),
            endpoint="/v1/embeddings",
            completion_window="24h",
            expires_at=int(time.time()) + 24 * _HOUR,
            metadata={COLLECTION_KEY: SPEC.name, DAY_KEY: day, REQUEST_KEY: request_id},
            status=status,
            in_progress_at=at,
            due=time.time() + 24 * _HOUR,
        )
        self.batches.append(batch)
        request = Request(
            request_id, SPEC.name, SPEC.model, SPEC.dimensions, day, 1, 100, layout.new_id(), _FILE, _FILE
        )
        sent = SentBatch(batch.id, at, batch.input_file_id)
        self._put(f"{request.folder}/{layout.REQUEST}", request)
        self._put(f"{request.folder}/{layout.BATCH}", sent)
        self.objects |= {f"{request.folder}/{name}.parquet": b"a few bytes" for name in ("documents-0", "ids-0")}
        if not landed:
            return None
        landing = Landing(
            landing_id=layout.new_id(),
            collection=SPEC.name,
            day=day,
            request_id=request_id,
            batch_id=batch.id,
            created_at=at,
            status=status,
            model=SPEC.model,
            dimensions=SPEC.dimensions,
            requested=100,
            accepted=100,
            rejected=0,
            missing=0,
            repeated=0,
            stray=0,
            tokens=500,
            digest="0" * 64,
            outcome="0" * 32,
            records_file=_FILE,
            accepted_file=_FILE,
            rejected_file=_FILE,
        )
        names = ("records", "accepted", "rejected")
        self.objects |= {f"{landing.folder}/{name}.parquet": b"a few bytes" for name in names}
        self._put(f"{landing.folder}/{layout.MANIFEST}", landing)
        return landing

    def _put(self, key: str, value: Any) -> None:
        self.objects[key] = encode(value, key)

    def add_delta(self, landings: list[Landing]) -> None:
        """A delta with the records of these landings, of one day."""
        entries = tuple(BatchEntry(one.batch_id, one.created_at, one.landing_id, 100, 100) for one in landings)
        manifest = Manifest(
            kind="delta",
            id=layout.new_id(),
            collection=SPEC.name,
            model=SPEC.model,
            dimension=SPEC.dimensions,
            distance=SPEC.distance,
            count=100 * len(landings),
            digest="0" * 64,
            files=(FileEntry("chroma.sqlite3", 11, "0" * 64),),
            created_at=layout.now().isoformat(),
            run_id="benchmark",
            chromadb_version="1.5.9",
            day=landings[0].day,
            batches=entries,
        )
        self.objects[manifest.key] = manifest.to_bytes()
        self.objects[f"{manifest.folder}/chroma.sqlite3"] = b"a few bytes"


def imagine(known: int) -> World:
    """So many batches, the oldest first."""
    world, now = World(), time.time()
    recent = max(1, known // 5)
    landed: dict[str, list[Landing]] = {}
    for i in range(known):
        if i < known - 2 * recent:
            created = now - 2 * 86_400 - _HISTORY_DAYS * 86_400 * (1 - i / (known - 2 * recent))
            under_way = False
        else:
            created = now - 22 * _HOUR * (1 - (i - known + 2 * recent) / (2 * recent))
            under_way = i % 2 == 1
        landing = world.add(created, "in_progress" if under_way else "completed", not under_way)
        if landing is not None:
            landed.setdefault(landing.day, []).append(landing)
    for landings in landed.values():
        for start in range(0, len(landings), _BATCHES_IN_A_DELTA):
            world.add_delta(landings[start : start + _BATCHES_IN_A_DELTA])
    return world


@dataclass
class Ticks:
    """The sensor, ticking as the daemon lets it."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    cursor: str | None = None

    def tick(self) -> tuple[float, bool]:
        """One tick: its seconds, and whether it asks for a run."""
        with dg.build_sensor_context(
            instance=self.instance,
            definitions=self.definitions,
            resources=self.definitions.resources,
            cursor=self.cursor,
        ) as context:
            sensor = self.definitions.resolve_sensor_def("finished_batches")
            began = time.perf_counter()
            answer = sensor.evaluate_tick(context)
            seconds = time.perf_counter() - began
        self.cursor = answer.cursor
        return seconds, bool(answer.run_requests)

    def change(self, **changes: float) -> None:
        """Change what the cursor says."""
        self.cursor = replace(Position.parse(self.cursor), **changes).to_text()  # type: ignore[arg-type]

    def round(self, until_asked: bool = False) -> str:
        """Ticks until everything that is due has been looked at once; a row of the table."""
        seconds, calls, requests = [], [], []
        while True:
            with counting() as (api, store):
                took, asked = self.tick()
            seconds.append(took)
            calls.append(api["calls"])
            requests.append(sum(store.requests.values()))
            if asked if until_asked else Position.parse(self.cursor).over:
                break
        return f"{len(seconds)} | {max(seconds):.2f} | {max(calls)} | {max(requests)}"


@contextmanager
def counting() -> Iterator[tuple[dict[str, int], CountingBackend]]:
    """Counts API calls and store requests until the block ends."""
    api, store, ask = {"calls": 0}, CountingBackend(), EmbeddingApi._ask

    def counted(self: EmbeddingApi, *arguments: object) -> object:
        api["calls"] += 1
        return ask(self, *arguments)  # type: ignore[arg-type]

    EmbeddingApi._ask = counted  # type: ignore[assignment, method-assign]
    try:
        with store.counting():
            yield api, store
    finally:
        EmbeddingApi._ask = ask  # type: ignore[method-assign]


def forget() -> None:
    """Forget what the process has learnt, as if it had been started again."""
    for remembered in (undelivered._delta, undelivered._landing, discover._known_marks):
        remembered.cache_clear()
    gc.collect()


def fill_service(folder: Path, batches: list[BatchRecord]) -> None:
    """Make the list of a service that does not run."""
    index = Index(folder / "index.sqlite3")
    for batch in batches:
        index.add_batch(batch)
    index.close()


def fill_store(store: ObjectStore, objects: dict[str, bytes]) -> None:
    """Write all objects."""
    in_parallel(lambda item: store.put_new(*item), objects.items())


def measure(known: int, kind: str, folder: Path) -> list[str]:
    """The rows for so many batches."""
    world = imagine(known)
    (folder / "service").mkdir(parents=True)
    fill_service(folder / "service", world.batches)
    with ExitStack() as stack:
        if kind == "s3":
            (folder / "s3").mkdir()
            server = stack.enter_context(s3_server(folder / "s3"))
            secrets = {"aws_access_key_id": server.writer.aws_access_key_id or ""}
            secrets["aws_secret_access_key"] = server.writer.aws_secret_access_key or ""
            resource = StoreResource(
                url=f"s3://{BUCKET}/ticks",
                s3=S3Resource(endpoint_url=server.endpoint, region_name="us-east-1", **secrets),
            )
        else:
            (folder / "store").mkdir()
            resource = StoreResource(url=(folder / "store").as_uri())
        fill_store(resource.open(), world.objects)
        sandbox = stack.enter_context(Sandbox.start(folder / "service"))
        os.environ["BENCHMARK_API_KEY"] = sandbox.api_key
        api = ApiResource(base_url=sandbox.base_url, api_key=dg.EnvVar("BENCHMARK_API_KEY"))
        catalog = Catalog(collections={SPEC.name: SPEC})
        instance = stack.enter_context(dg.DagsterInstance.ephemeral())
        ticks = Ticks(build_definitions(catalog, {"store": resource, "api": api}), instance)
        rows = {}
        forget()
        rows["first"] = ticks.round()
        rows["usual"] = ticks.round()
        ticks.change(full_at=0.0)
        rows["hourly"] = ticks.round()
        forget()
        rows["restart"] = ticks.round()
        client = EmbeddingApi(ApiSettings(sandbox.api_key, sandbox.base_url))
        oldest = min((b for b in world.batches if b.status == "in_progress"), key=lambda b: b.created_at)
        client.cancel(oldest.id)
        while not client.retrieve(oldest.id).ended:
            pass
        rows["finished"] = ticks.round(until_asked=True)
    under_way = sum(batch.status == "in_progress" for batch in world.batches)
    return [f"| {known:,} | {under_way:,} | {name} | {row} |" for name, row in rows.items()]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=("folder", "s3"), default="folder")
    parser.add_argument("--known", type=int, nargs="+", default=[10, 1_000, 10_000])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"store: {arguments.store}\n")
    print("| batches known | under way | round | ticks | seconds a tick | API calls a tick | store requests a tick |")
    print("|---:|---:|---|---:|---:|---:|---:|")
    for known in arguments.known:
        with tempfile.TemporaryDirectory(prefix="sensor-ticks-") as folder:
            print("\n".join(measure(known, arguments.store, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
