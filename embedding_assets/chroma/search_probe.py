"""Searches for a sample of records and compares the answers with what a look at every record gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from embedding_assets.records import RecordBatch, Vectors

_SAMPLE = 32
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
    """Takes a sample of an opened collection, is shown all records, then asks the index for the sample."""

    def __init__(self, handle: Any, space: str, count: int) -> None:
        self._handle, self._space = handle, space
        self._ids, self._queries = _sample(handle, count)
        self._nearest = np.full((len(self._ids), 0), np.inf)
        self._seen: set[int] = set()
        self._shown = 0

    def show(self, batch: RecordBatch) -> None:
        """Compare these records with the sample."""
        self._shown += len(batch)
        rows = np.ascontiguousarray(batch.embeddings)
        # One 64-bit hash per vector: enough to count how many stand more than once.
        self._seen.update(hash(row.tobytes()) for row in rows)
        distances = np.hstack([self._nearest, self._distances(rows)])
        keep = min(_NEAREST, distances.shape[1])
        self._nearest = np.partition(distances, keep - 1, axis=1)[:, :keep]

    def judge(self) -> Found:
        """Ask the index."""
        repeated = 1 - len(self._seen) / self._shown if self._shown else 0.0
        if not self._ids:
            return Found(0, 0, None, repeated)
        wanted = self._nearest.shape[1]
        answer = self._handle.query(query_embeddings=self._queries, n_results=wanted, include=["distances"])
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
        products = self._queries.astype(np.float64) @ rows.astype(np.float64).T
        distances: npt.NDArray[np.float64] = 1 - products
        if self._space != "ip":
            own = np.einsum("ij,ij->i", self._queries, self._queries, dtype=np.float64)[:, None]
            others = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)[None, :]
            if self._space == "l2":
                distances = own + others - 2 * products
            else:
                distances = 1 - products / np.maximum(np.sqrt(own * others), 1e-30)
        return distances


def _sample(handle: Any, count: int) -> tuple[list[str], Vectors]:
    """Records from all over the collection, evenly spaced."""
    if count == 0:
        return [], np.empty((0, 0), np.float32)
    if count <= _SAMPLE:
        got = handle.get(include=["embeddings"])
        return got["ids"], np.asarray(got["embeddings"], dtype=np.float32)
    ids, vectors = [], []
    for offset in np.linspace(0, count - 1, _SAMPLE).astype(int):
        got = handle.get(limit=1, offset=int(offset), include=["embeddings"])
        ids.extend(got["ids"])
        vectors.extend(got["embeddings"])
    return ids, np.asarray(vectors, dtype=np.float32)
