"""What verification costs: seconds, seconds per GB, and as a share of the compaction that made the snapshot.

python benchmarks/verification_cost.py [--records 10000] [--dimension 1536]

The store is a folder on this machine, so what a network adds is not in it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from embedding_assets.catalog import CollectionSpec
from embedding_assets.records import RecordBatch, slices
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import DeltaRef, LandedBatch, build_delta
from embedding_assets.vectorstore.manifest import Manifest
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
