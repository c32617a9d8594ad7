"""What it costs to plan a compaction: requests and seconds, by the number of deltas that a collection has ever had.

    PYTHONPATH=. python benchmarks/planning.py [--store folder|s3] [--known 100 1000 10000] [--waiting 10]

The deltas are made cheaply: true manifests and marks, with files of a few bytes, spread over 100 days; all but a few
are in the snapshot. `every delta` is what planning does where marks cannot be relied on: after a rollback, in a store
of an older version. The seconds are of the fastest of three plans, `status` is the command's share for the store.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from embedding_assets.catalog import CollectionSpec
from embedding_assets.pipeline.status import collection_status
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.commit import repair_pointer, try_commit
from embedding_assets.vectorstore.manifest import FileEntry, Manifest
from embedding_assets.vectorstore.marks import mark
from embedding_assets.vectorstore.planning import plan_compaction
from embedding_assets.vectorstore.transfer import at_once

SPEC = CollectionSpec(name="lines", model="test-model", dimensions=1536)
_DAYS = 100
_CONTENT = b"a few bytes"
_VERSIONS = 5  # as many as `prune` keeps


class CountingBackend:
    """An obstore backend's requests, counted where obstore is called: one per object, one per page of a listing."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count until the block ends."""
        import obstore

        before = {name: getattr(obstore, name) for name in ("get", "put", "head", "list", "list_with_delimiter")}

        def counted(name: str) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                if name != "list":
                    self.requests[name] += 1
                    return before[name](*arguments, **more)
                return self._pages(before[name](*arguments, **more))

            return call

        for name in before:
            setattr(obstore, name, counted(name))
        try:
            yield
        finally:
            for name, function in before.items():
                setattr(obstore, name, function)

    def _pages(self, pages: Any) -> Iterator[Any]:
        self.requests["list"] += 1
        for number, page in enumerate(pages):
            self.requests["list"] += bool(number)
            yield page


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["folder", "s3"], action="append", help="both unless given")
    parser.add_argument("--known", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--waiting", type=int, default=10)
    arguments = parser.parse_args()
    print("| store | deltas known | waiting | plan | every delta | status | snapshot's manifest |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="planning-") as name:
        for kind in arguments.store or ["folder", "s3"]:
            with stores(kind, Path(name)) as make:
                for known in arguments.known:
                    store = make()
                    size = fill(store, known, arguments.waiting)
                    plan = measured(lambda: plan_compaction(store, SPEC))  # noqa: B023  (used at once)
                    every = measured(lambda: plan_compaction(store, SPEC, every_delta=True))  # noqa: B023
                    status = measured(lambda: collection_status(store, SPEC))  # noqa: B023
                    planned = plan_compaction(store, SPEC)
                    assert len(planned.missing) == arguments.waiting
                    assert planned.missing == plan_compaction(store, SPEC, every_delta=True).missing
                    looks = f"{plan} | {every} | {status}"
                    print(f"| {kind} | {known:,} | {arguments.waiting} | {looks} | {size / 1000:.0f} kB |", flush=True)


def measured(look: Callable[[], object]) -> str:
    """Requests and seconds of one look."""
    counting = CountingBackend()
    with counting.counting():
        look()
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        look()
        seconds.append(time.monotonic() - began)
    return f"{counting.requests.total()} requests, {min(seconds):.3f} s"


def fill(store: ObjectStore, known: int, waiting: int) -> int:
    """A collection with so many deltas; the size of its snapshot's manifest in bytes."""
    first = date(2026, 1, 1)
    days = [str(first + timedelta(days=number % _DAYS)) for number in range(known)]
    deltas = sorted((day, layout.new_id()) for day in days)
    late = deltas[:: max(1, known // waiting)][:waiting]
    at_once(lambda one: write(store, manifest_of("delta", one[1], day=one[0])), deltas, threads=16)
    for day, name in late:
        mark(store, SPEC.name, day, name)
    inside = tuple(sorted({name for _, name in deltas} - {name for _, name in late}))
    for generation in range(1, _VERSIONS + 1):
        version = manifest_of("snapshot", layout.new_version(generation), generation=generation, deltas=inside)
        write(store, version)
        assert try_commit(store, version, (), marked=True)
    repair_pointer(store, SPEC.name)
    return len(version.to_bytes())


def manifest_of(kind: Any, name: str, **more: Any) -> Manifest:
    """A manifest of a database that is none."""
    files = tuple(
        FileEntry(path, len(_CONTENT), hashlib.sha256(_CONTENT).hexdigest())
        for path in ("chroma.sqlite3", "x/data_level0.bin", "x/header.bin", "x/length.bin", "x/link_lists.bin")
    )
    made = Manifest(
        kind, name, SPEC.name, SPEC.model, SPEC.dimensions, SPEC.distance, 1, "0" * 64, files, "", "", "1.5.9"
    )
    return dataclasses.replace(made, **more)


def write(store: ObjectStore, manifest: Manifest) -> None:
    """Its files and itself."""
    for entry in manifest.files:
        store.put_new(f"{manifest.folder}/{entry.path}", _CONTENT)
    store.put_new(manifest.key, manifest.to_bytes())


@contextlib.contextmanager
def stores(kind: str, folder: Path) -> Iterator[Callable[[], ObjectStore]]:
    """What makes empty stores of a kind."""
    if kind == "folder":
        yield lambda: open_store(f"file://{folder}/{layout.new_id()}")
        return
    from embedding_assets_tests.s3_server import BUCKET, s3_server

    (folder / "s3").mkdir()
    with s3_server(folder / "s3") as server:
        yield lambda: open_store(f"s3://{BUCKET}/{layout.new_id()}", server.writer)


if __name__ == "__main__":
    main()
