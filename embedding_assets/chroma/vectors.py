"""Finds vectors in the HNSW files or in the log, and gives them as `collection.get` does.

What `get` gives for a vector, measured on chromadb 1.5.9: for l2 and ip the stored float32 values; for cosine the unit
vector times its norm, each in float32, and so up to about 1e-7 off what was written. That holds for vectors which are
still in the log as well, for ChromaDB replays them into an index in memory before it answers. The norm is the square
root of a plain sum from the first to the last dimension; any other order of summation gives other last bits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedding_assets.chroma.hnsw_files import HnswFiles, open_hnsw
from embedding_assets.chroma.index_metadata import IndexMetadata
from embedding_assets.chroma.log_reader import log_vectors
from embedding_assets.chroma.replay import VectorPlaces, index_of, locate_vectors
from embedding_assets.chroma.sqlite_reader import Collection
from embedding_assets.records import Vectors, slices

_BLOCK = 64  # vectors whose squares stay in the processor's cache


def as_cosine_gives(raw: Vectors) -> Vectors:
    """What `get` of a cosine collection gives for these vectors, bit for bit; shape (n, D), float32, raw values."""
    given = np.empty(raw.shape, dtype=np.float32)
    with np.errstate(all="ignore"):
        for some in slices(len(raw), _BLOCK):
            norms = as_cosine_holds(raw[some], given[some])
            given[some] *= norms[:, None]
    return given


def as_cosine_holds(raw: Vectors, units: Vectors) -> npt.NDArray[np.float32]:
    """What the index of a cosine collection holds of these vectors: returns the norms, shape (n,).

    Args:
        raw: as they were written, shape (n, D).
        units: where the unit vectors go, same shape.
    """
    norms = np.empty(len(raw), dtype=np.float32)
    with np.errstate(all="ignore"):
        for some in slices(len(raw), _BLOCK):
            norms[some] = np.sqrt(_sums_of_squares(raw[some]))
            inverse = np.float32(1) / (norms[some] + np.float32(1e-30))
            np.multiply(raw[some], inverse[:, None], out=units[some])
    return norms


def _sums_of_squares(vectors: Vectors) -> npt.NDArray[np.float32]:
    """Added up in float32 from the first dimension to the last."""
    squares = vectors * vectors
    if len(squares) == 1:
        # Of a single row numpy would add up pairs of pairs.
        return np.add.accumulate(squares, axis=1)[:, -1]
    sums: npt.NDArray[np.float32] = np.add.reduce(np.ascontiguousarray(squares.T), axis=0)
    return sums


class VectorReader:
    """Finds vectors by record id; `raw` as in `read.read_records`.

    Attributes:
        places: where the vector of each record is.
        cosine: whether the index holds unit vectors and norms.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        folder: Path,
        collection: Collection,
        *,
        raw: bool = False,
        index: IndexMetadata | None = None,
    ) -> None:
        """Open the index of a collection; `index` is what it says of itself, where that was read already."""
        self._connection = connection
        self.cosine = collection.space == "cosine"
        self._raw = raw
        index = index or index_of(folder, collection)
        self.places: VectorPlaces = locate_vectors(connection, collection, index)
        if len(self.places) and collection.dimension is None:
            raise ValueError(f"collection {collection.name!r} holds vectors but has no dimension")
        self._dimension = collection.dimension or 0
        self._files: HnswFiles | None = None
        if index is not None:
            self._files = open_hnsw(folder / collection.vector_segment, self._dimension)
            self._order = np.argsort(self._files.labels, kind="stable")
            self._sorted = self._files.labels[self._order]

    @property
    def files(self) -> HnswFiles:
        """The index; ValueError where there is none."""
        if self._files is None:
            raise ValueError("the index names records but is empty")
        return self._files

    def vectors(self, ids: list[str]) -> Vectors:
        """The vectors of these ids, shape (n, D), float32, as `get` gives them."""
        found = [self.places.labels.get(record_id) for record_id in ids]
        wanted = [label for label in found if label is not None]
        if len(wanted) == len(ids):
            return self._indexed(wanted)
        out = np.empty((len(ids), self._dimension), dtype=np.float32)
        from_log = [i for i, label in enumerate(found) if label is None]
        seqs = []
        for i in from_log:
            if ids[i] not in self.places.log_rows:
                raise ValueError(f"record {ids[i]!r} is in SQLite but not in the index, nor in the log behind it")
            seqs.append(self.places.log_rows[ids[i]])
        if wanted:
            out[[i for i, label in enumerate(found) if label is not None]] = self._indexed(wanted)
        vectors = log_vectors(self._connection, seqs, self._dimension)
        out[from_log] = as_cosine_gives(vectors) if self.cosine and not self._raw else vectors
        return out

    def elements(self, ids: list[str]) -> npt.NDArray[np.int64]:
        """The elements of these ids, which are in the index; shape (n,)."""
        return self._elements([self.places.labels[record_id] for record_id in ids])

    def live(self, rows: int) -> Iterator[Vectors]:
        """All vectors that the index holds and that are not deleted, as it holds them, in pieces of at most so many."""
        for some in slices(self.files.header.count, rows):
            live = self.files.deleted[some] == 0
            vectors = self.files.vectors[some]
            yield vectors if live.all() else vectors[live]

    def _elements(self, wanted: list[int]) -> npt.NDArray[np.int64]:
        files, labels = self.files, np.asarray(wanted, dtype=np.uint64)
        if not len(self._sorted):
            raise ValueError("the index names records but is empty")
        at = np.minimum(np.searchsorted(self._sorted, labels), len(self._sorted) - 1)
        rows = self._order[at]
        if (self._sorted[at] != labels).any() or files.deleted[rows].any():
            raise ValueError("the index names a record whose vector is not there, or is deleted")
        return rows

    def _indexed(self, labels: list[int]) -> Vectors:
        if not labels:
            return np.empty((0, self._dimension), dtype=np.float32)
        rows = self._elements(labels)
        vectors, norms = self.files.vectors, self.files.norms
        out = np.empty((len(rows), self._dimension), dtype=np.float32)
        with np.errstate(all="ignore"):
            for some in slices(len(rows), _BLOCK):
                at = as_slice(rows[some])
                if self.cosine:
                    np.multiply(vectors[at], norms[at][:, None], out=out[some])
                else:
                    out[some] = vectors[at]
        return out


def as_slice(elements: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | slice:
    """The same elements, of which there is at least one, as a slice where they follow one another: no copy is made."""
    first, last = int(elements[0]), int(elements[-1])
    if last - first == len(elements) - 1 and (np.diff(elements) == 1).all():
        return slice(first, last + 1)
    return elements
