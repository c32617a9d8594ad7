"""Makes records and databases for tests; deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from embedding_assets.catalog import CollectionSpec
from embedding_assets.records import RecordBatch, clean_metadata
from embedding_assets.vectorstore.delta import LandedBatch

SPEC = CollectionSpec(name="lines", model="test-model", dimensions=8)


def make_records(ids: Sequence[str], *, seed: int = 0, dimension: int = 8, text: str = "text of") -> RecordBatch:
    """Records with random vectors and metadata of every type."""
    vectors = np.random.default_rng(seed).standard_normal((len(ids), dimension)).astype(np.float32)
    return RecordBatch(
        list(ids),
        vectors,
        [f"{text} {record_id}" for record_id in ids],
        [
            clean_metadata({"n": i, "x": i / 7, "even": i % 2 == 0, "name": record_id})
            for i, record_id in enumerate(ids)
        ],
    )


def numbered(first: int, last: int) -> list[str]:
    """Ids from first up to, but without, last."""
    return [f"id-{i:05d}" for i in range(first, last)]


def landed(
    folder: Path, batch_id: str, ids: Sequence[str], *, submitted: int = 1000, seed: int = 0, text: str = "text of"
) -> LandedBatch:
    """A landed batch with these records, as a Parquet file in the folder."""
    path = folder / f"{batch_id}.parquet"
    pq.write_table(make_records(ids, seed=seed, text=text).to_arrow(), path)
    return LandedBatch(batch_id, submitted, f"landing-of-{batch_id}", len(ids), path)
