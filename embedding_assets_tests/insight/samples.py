"""Samples of collections as the numbers and pictures take them, and their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from embedding_assets.insight.statistics import Searched, Statistics, measure
from embedding_assets.records import RecordBatch

ABOUT: dict[str, Any] = {
    "collection": "lines",
    "version": "0000000002-20261124T023128123456-1f0c9a2b",
    "parent": "0000000001-20261123T023128123456-1f0c9a2b",
    "generation": 2,
    "committed_at": "2026-11-24T02:31:29+00:00",
    "model": "test-model",
    "distance": "cosine",
    "dimension": 16,
}


def cloud(count: int, *, seed: int = 0, centre: float = 0.0, dimension: int = 16, groups: int = 3) -> RecordBatch:
    """Records in so many clusters; the metadata field `group` says in which one each is, `noise` says nothing."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(77).standard_normal((groups, dimension)) * 4
    group = rng.integers(0, groups, count)
    vectors = middles[group] + rng.standard_normal((count, dimension)) + centre
    return RecordBatch(
        [f"id-{i}" for i in range(count)],
        vectors.astype(np.float32),
        [f"text {i} <b>&</b>" for i in range(count)],
        [
            {"group": f"group {g}", "noise": int(rng.integers(0, 3)), "id": f"own {i}", "ea:batch": "batch_1"}
            for i, g in enumerate(group.tolist())
        ],
    )


def numbers(sample: RecordBatch, *, searched: Searched | None = None, **changed: Any) -> Statistics:
    """The numbers of a sample that is the whole collection."""
    options = {name: changed.pop(name) for name in ("shown", "text_chars", "count", "newcomers") if name in changed}
    return measure(
        sample,
        near_distance=0.02,
        searched=searched,
        about={**ABOUT, **changed},
        **{"count": len(sample), **options},
    )
