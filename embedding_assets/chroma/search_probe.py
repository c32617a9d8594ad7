"""Searches for a sample of records and compares the answers with what a look at every record gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from embedding_assets.records import Vectors

_SAMPLE = 32
_HEAD = 16
_SHORT, _LONG = 1e-9, 1e9  # lengths between which float32 has room for squares
_NEAREST = 10
# Distances that differ by less are one: chromadb adds up in float32, in an order of its own.
_RELATIVE = 1e-4
_OF_SQUARE = 1e-5


@dataclass(frozen=True)
class Found:
    """What the searches gave.

    Attributes:
        sampled: records that were searched for by their own vector.
        found: how many of them were in their answer, or their answer was as near as any can be (equal texts are).
        recall: which part of the ten nearest the answers held; by distance, so that equal ones are as good.
        repeated: which part of all records has a vector that another one has, too.
    """

    sampled: int
    found: int
    recall: float | None
    repeated: float


class SearchProbe:
    """Is given a sample of a collection, is shown all records, then asks the index for the sample."""

    def __init__(self, space: str, ids: list[str], queries: Vectors) -> None:
        self._space, self._ids, self._queries = space, ids, queries
        self._nearest = np.full((len(self._ids), 0), np.inf)
        self._seen: set[bytes] = set()
        self._shown = 0

    def show(self, vectors: Vectors) -> None:
        """Compare these vectors with the sample; shape (n, D), n at least 1; for cosine of any length."""
        self._shown += len(vectors)
        rows = np.ascontiguousarray(vectors)
        # The first numbers of a vector: enough to count how many stand more than once.
        head = np.ascontiguousarray(rows[:, :_HEAD])
        width = head.shape[1] * 4
        data = head.tobytes()
        self._seen.update(data[start : start + width] for start in range(0, len(data), width))
        distances = np.hstack([self._nearest, self._distances(rows)])
        keep = min(_NEAREST, distances.shape[1])
        self._nearest = np.partition(distances, keep - 1, axis=1)[:, :keep]

    def judge(self, handle: Any) -> Found:
        """Ask the index of an opened collection."""
        repeated = 1 - len(self._seen) / self._shown if self._shown else 0.0
        if not self._ids:
            return Found(0, 0, None, repeated)
        wanted = self._nearest.shape[1]
        answer = handle.query(query_embeddings=self._queries, n_results=wanted, include=["distances"])
        squares = np.einsum("ij,ij->i", self._queries, self._queries, dtype=np.float64)
        scale = squares if self._space != "cosine" else np.ones(len(squares))
        limits = self._nearest.max(axis=1)
        limits = limits + _RELATIVE * np.abs(limits) + _OF_SQUARE * scale
        found = hits = 0
        for record_id, ids, distances, limit in zip(self._ids, answer["ids"], answer["distances"], limits, strict=True):
            near = int((np.asarray(distances) <= limit).sum())
            hits += near
            found += record_id in ids or near == wanted
        return Found(len(self._ids), found, hits / (wanted * len(self._ids)), repeated)

    def _distances(self, rows: Vectors) -> npt.NDArray[np.float64]:
        own = np.linalg.norm(self._queries, axis=1).astype(np.float64)
        others = np.linalg.norm(rows, axis=1).astype(np.float64)
        lengths = np.concatenate([own, others])
        if lengths.min() > _SHORT and lengths.max() < _LONG:
            products = (self._queries @ rows.T).astype(np.float64)
        else:  # squares that float32 cannot hold
            products = self._queries.astype(np.float64) @ rows.astype(np.float64).T
            own, others = (np.linalg.norm(some.astype(np.float64), axis=1) for some in (self._queries, rows))
        distances: npt.NDArray[np.float64] = 1 - products
        if self._space == "l2":
            distances = np.square(own)[:, None] + np.square(others)[None, :] - 2 * products
        elif self._space == "cosine":
            distances = 1 - products / np.maximum(own[:, None] * others[None, :], 1e-30)
        return distances


def evenly(count: int) -> list[int]:
    """Positions of a sample from all over `count` records, evenly spaced."""
    return list(range(count)) if count <= _SAMPLE else np.linspace(0, count - 1, _SAMPLE).astype(int).tolist()


def sample_of(handle: Any, count: int) -> tuple[list[str], Vectors]:
    """Ids and vectors of the sample of an opened collection."""
    ids, vectors = [], []
    for offset in evenly(count):
        got = handle.get(limit=1, offset=offset, include=["embeddings"])
        ids.extend(got["ids"])
        vectors.extend(got["embeddings"])
    return ids, np.asarray(vectors, dtype=np.float32).reshape(len(ids), -1)
