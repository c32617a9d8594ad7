"""What verification costs: seconds, seconds per GB, and as a share of the compaction that made the snapshot.

Then each check alone, as a share of what it is a part of: the digest of a delta, of a compaction; the look at a cached
copy, of a reader's open; the way of a reader and the reachability of each element, of `check`.

python benchmarks/verification_cost.py [--records 10000] [--dimension 1536]

The store is a folder on this machine, so what a network adds is not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.hnsw_files import open_hnsw
from embedding_assets.chroma.reach_checks import reach_of
from embedding_assets.chroma.read import read_records
from embedding_assets.chroma.schema import strange_object
from embedding_assets.chroma.sqlite_reader import connect
from embedding_assets.pipeline.log_walk import walk_log
from embedding_assets.records import RecordBatch, digest_of, slices
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.cache import fetch_current
from embedding_assets.vectorstore.commit import head, load_snapshot
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import DeltaRef, LandedBatch, build_delta
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.transfer import download_files
from embedding_assets.vectorstore.verify import LEVELS, verify

DAY = "2026-03-04"
_AT_ONCE = 5000


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=1536)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    spec = CollectionSpec(name="lines", model="test-model", dimensions=arguments.dimension)
    with tempfile.TemporaryDirectory(prefix="verification-cost-") as name:
        folder = Path(name)
        store = open_store(f"file://{folder}/store")
        landed = write_landed(folder, arguments.records, arguments.dimension)
        began = time.monotonic()
        delta = build_delta(store, spec, DAY, [landed], run_id="cost", scratch=folder)
        built = time.monotonic() - began
        print(f"a delta of {delta.count:,} x {spec.dimensions}, {delta.size / 1e6:.0f} MB, was built in {built:.1f} s")
        began = time.monotonic()
        done = compact(store, spec, run_id="cost", scratch=folder)
        compacted = time.monotonic() - began
        assert done is not None
        size = done.manifest.size / 1e6
        print(f"its compaction into a snapshot of {size:.0f} MB took {compacted:.1f} s, checks of its own included")
        measure(store, spec, delta, compacted, folder)
        measure_parts(store, spec, delta, compacted, folder)


def measure(store: ObjectStore, spec: CollectionSpec, delta: Manifest, compacted: float, scratch: Path) -> None:
    """Verify both databases at both levels."""
    commit = head(store, spec.name)
    assert commit is not None
    print(f"{'database':10s} {'level':6s} {'seconds':>8s} {'s per GB':>9s} {'of a compaction':>16s}  verdict")
    for what, name in ((DeltaRef(delta.id, DAY, spec.name), "delta"), (commit, "snapshot")):
        for level in LEVELS:
            found = verify(store, what, spec, level=level, scratch=scratch)
            print(
                f"{name:10s} {level:6s} {found.seconds:8.2f} {found.seconds / found.bytes * 1e9:9.1f} "
                f"{found.seconds / compacted:16.1%}  {found.verdict.kind} {found.verdict.reason}"
                + (f", recall at 10 {found.recall:.3f}" if found.recall is not None else "")
            )


def measure_parts(store: ObjectStore, spec: CollectionSpec, delta: Manifest, compacted: float, scratch: Path) -> None:
    """Each check alone, as a share of what it is a part of."""
    commit = head(store, spec.name)
    assert commit is not None
    manifest = load_snapshot(store, spec.name, commit)
    copies = {one.kind: scratch / f"alone-{one.kind}" for one in (delta, manifest)}
    for one in (delta, manifest):
        download_files(store, one, copies[one.kind])
    batches = list(read_records(copies["delta"], spec.name, 1000))
    cache = scratch / "cache"
    fetch_current(store, spec.name, cache).close()  # type: ignore[union-attr]

    def opened(checksums: bool) -> None:
        fetch_current(store, spec.name, cache, checksums=checksums).close()  # type: ignore[union-attr]

    def reach() -> None:
        for path in copies["snapshot"].glob("*/data_level0.bin"):
            files = open_hnsw(path.parent, spec.dimensions)
            reach_of(files, files.upper_links())

    with contextlib.closing(connect(copies["snapshot"])) as connection:
        schema = _seconds(lambda: strange_object(connection))
    quick, full = (_seconds(lambda: verify(store, commit, spec, level=level, scratch=scratch)) for level in LEVELS)  # noqa: B023
    for label, seconds, whole, of in (
        ("digest and count of a delta", _seconds(lambda: digest_of(batches)), compacted, "the compaction"),
        ("definitions of the SQLite file", schema, compacted, "the compaction"),
        (
            "the way of a reader (walk_log)",
            _seconds(lambda: walk_log(store, spec.name)),
            quick,
            "the snapshot's `quick` verification",
        ),
        ("every element is reachable", _seconds(reach), full, "the snapshot's `full` verification"),
    ):
        print(f"{label:34s} {seconds:8.4f} s {seconds / whole:8.2%} of {of}")
    fast, thorough = _seconds(lambda: opened(False)), _seconds(lambda: opened(True))
    print(f"a reader's open of a copy that is there: {fast:.4f} s; with checksums {thorough / fast:.1f} times that")


def _seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def write_landed(folder: Path, count: int, dimension: int) -> LandedBatch:
    """Records with random vectors, as a batch's landed result."""
    rng = np.random.default_rng(1)
    writer = None
    path = folder / "landed.parquet"
    for rows in slices(count, _AT_ONCE):
        ids = [f"id-{i:07d}" for i in range(rows.start, rows.stop)]
        vectors = rng.normal(size=(len(ids), dimension)).astype(np.float32)
        metadatas = [{"n": i, "name": record_id} for i, record_id in enumerate(ids)]
        table = RecordBatch(ids, vectors, [f"text of {i}" for i in ids], [dict(m) for m in metadatas]).to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return LandedBatch("batch", 1000, "landing", count, path)


if __name__ == "__main__":
    main()
