"""Writes an index as chromadb 1.5.9 leaves it: appends vectors to its files, marks the deleted, links all anew.

The layout is in `hnsw_files`. Vectors stay where they are, on disk; what is held in memory is the graph, and, while it
is made, the vectors in a quarter of their size.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedding_assets.chroma.graph import Graph, graph_of
from embedding_assets.chroma.graph_build import build_graph
from embedding_assets.chroma.hnsw_files import (
    HEADER_FILE,
    LENGTH_FILE,
    LEVEL0_FILE,
    LINKS_FILE,
    NO_ENTRY_POINT,
    Header,
    open_hnsw,
    pack_header,
)
from embedding_assets.chroma.index_metadata import INDEX_METADATA_FILE, write_index_metadata
from embedding_assets.chroma.replay import index_of
from embedding_assets.chroma.sqlite_reader import Collection
from embedding_assets.chroma.vectors import as_cosine_holds
from embedding_assets.records import RecordBatch, slices

# Deleted elements stay in the graph, and every search passes over them. Beyond this share it is made anew without them.
_MOST_DELETED = 0.2
_ROWS = 4096


class IndexWriter:
    """Changes the index of one collection; nothing is whole until `finish` is done.

    Attributes:
        kept: vectors that were to be put in the place of equal ones, so that nothing had to be done.
        rebuilt: whether the graph was made from nothing, deleted elements left out.
    """

    def __init__(self, folder: Path, collection: Collection, dimension: int, room: int) -> None:
        """Open the index of a collection, or begin one.

        Args:
            folder: a database of the caller's own; to be thrown away where this fails.
            collection: as it stood before its records were changed.
            dimension: of its vectors.
            room: the most vectors that will be put.

        Raises:
            ValueError: the index is damaged.
        """
        self._collection, self._dimension = collection, dimension
        self._folder = folder / collection.vector_segment
        self.kept, self.rebuilt = 0, False
        self._base: Graph | None = None
        self._labels: dict[str, int] = {}
        self._count = 0
        index = index_of(folder, collection)
        if index is not None:
            files = open_hnsw(self._folder, dimension)
            self._base, self._count = graph_of(files), files.header.count
            self._labels = dict(index.id_to_label)
        else:
            self._folder.mkdir(exist_ok=True)
            for name in (LEVEL0_FILE, LENGTH_FILE):
                (self._folder / name).write_bytes(b"")
        slots = max(self._count + room, 1)
        self._rows = self._mapped(LEVEL0_FILE, _element(collection.max_neighbors, dimension), slots)
        self._norms = self._mapped(LENGTH_FILE, np.dtype("<f4"), slots)
        labels = self._rows["label"][: self._count]
        self._element_of = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
        self._element_of[labels.astype(np.int64)] = np.arange(self._count)

    def put(self, batch: RecordBatch) -> None:
        """Add vectors; those of ids that are there take the place of the old ones. Each id at most once in all."""
        vectors, norms = self._as_held(batch)
        olds = np.asarray([self._labels.get(record_id, 0) for record_id in batch.ids], dtype=np.int64)
        replaced = np.flatnonzero(olds)
        elements = self._element_of[olds[replaced]]
        same = self._norms[elements] == norms[replaced]
        same &= (self._rows["vector"][elements] == vectors[replaced]).all(axis=1)
        self.kept += int(same.sum())
        self._rows["deleted"][elements[~same]] = 1
        new = np.setdiff1d(np.arange(len(batch)), replaced[same], assume_unique=True)
        at = slice(self._count, self._count + len(new))
        self._rows["vector"][at] = vectors[new]
        self._norms[at] = norms[new]
        self._rows["label"][at] = np.arange(at.start + 1, at.stop + 1)
        for element, row in enumerate(new, start=at.start):
            self._labels[batch.ids[row]] = element + 1
        self._count = at.stop

    def remove(self, ids: list[str]) -> None:
        """Delete the vectors of these ids, as far as they are there."""
        labels = [self._labels.pop(record_id) for record_id in ids if record_id in self._labels]
        self._rows["deleted"][self._element_of[labels]] = 1

    def finish(self) -> None:
        """Link all elements and write every file."""
        if self._count == 0:
            self._close()
            return
        deleted = int(self._rows["deleted"][: self._count].sum())
        if deleted > _MOST_DELETED * self._count:
            self._drop_deleted()
        m, ef = self._collection.max_neighbors, self._collection.ef_construction
        graph = build_graph(self._rows["vector"][: self._count], self._collection.space, m, ef, self._base)
        for some in slices(self._count, _ROWS):
            self._rows["count"][some] = graph.counts[some]
            self._rows["links"][some] = graph.links[some]
        self._close()
        (self._folder / LINKS_FILE).write_bytes(_link_lists(graph))
        (self._folder / HEADER_FILE).write_bytes(pack_header(self._header(graph)))
        write_index_metadata(self._folder / INDEX_METADATA_FILE, self._count, self._labels)

    def _as_held(self, batch: RecordBatch) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        vectors = np.ascontiguousarray(batch.embeddings, dtype=np.float32)
        if vectors.shape != (len(batch), self._dimension) or not np.isfinite(vectors).all():
            raise ValueError(f"a vector has not {self._dimension} finite numbers")
        if self._collection.space == "cosine":
            units = np.empty_like(vectors)
            return units, as_cosine_holds(vectors, units)
        return vectors, np.zeros(len(batch), np.float32)

    def _drop_deleted(self) -> None:
        """Move the live elements together, in their order, and number their labels anew."""
        live = np.flatnonzero(self._rows["deleted"][: self._count] == 0)
        old_labels = self._rows["label"][live].astype(np.int64)
        for some in slices(len(live), _ROWS):
            # Nothing is overwritten before it was moved: no element moves up.
            self._rows[some] = self._rows[live[some]]
            self._norms[some] = self._norms[live[some]]
        self._rows["label"][: len(live)] = np.arange(1, len(live) + 1)
        new_labels = dict(zip(old_labels.tolist(), range(1, len(live) + 1), strict=True))
        self._labels = {record_id: new_labels[label] for record_id, label in self._labels.items()}
        self._count, self._base, self.rebuilt = len(live), None, True

    def _header(self, graph: Graph) -> Header:
        m = self._collection.max_neighbors
        size = _element(m, self._dimension).itemsize
        return Header(
            version=1,
            offset_level0=0,
            max_elements=self._count,
            count=self._count,
            element_size=size,
            label_offset=size - 8,
            data_offset=4 + 8 * m,
            max_level=graph.max_level if self._count else -1,
            entry_point=graph.entry_point if self._count else NO_ENTRY_POINT,
            max_links=m,
            max_links0=2 * m,
            m=m,
            level_multiplier=1 / math.log(m),
            ef_construction=max(self._collection.ef_construction, m),
        )

    def _mapped(self, name: str, kind: np.dtype[Any], slots: int) -> npt.NDArray[Any]:
        path = self._folder / name
        if path.stat().st_nlink > 1:
            raise ValueError(f"{name} is a link to a file of somebody else's, which would be changed")
        os.truncate(path, self._count * kind.itemsize)  # what was preallocated means nothing
        os.truncate(path, slots * kind.itemsize)
        return np.memmap(path, dtype=kind, mode="r+", shape=(slots,))

    def _close(self) -> None:
        kind = self._rows.dtype
        del self._rows, self._norms
        os.truncate(self._folder / LEVEL0_FILE, self._count * kind.itemsize)
        os.truncate(self._folder / LENGTH_FILE, self._count * 4)


def _element(m: int, dimension: int) -> np.dtype[Any]:
    fields = [("count", "<u2"), ("deleted", "u1"), ("padding", "u1"), ("links", "<u4", (2 * m,))]
    return np.dtype([*fields, ("vector", "<f4", (dimension,)), ("label", "<u8")])


def _link_lists(graph: Graph) -> bytes:
    """`link_lists.bin`, which is all numbers of 32 bits."""
    upper = graph.upper
    m = upper.links.shape[1]
    lengths = upper.levels.astype(np.int64) * (1 + m)
    starts = np.cumsum(1 + lengths) - lengths
    out = np.zeros(int(len(lengths) + lengths.sum()), dtype="<u4")
    out[starts - 1] = 4 * lengths
    places = starts[upper.elements] + (upper.row_levels - 1) * (1 + m)
    out[places[:, None] + np.arange(1 + m)] = np.column_stack([upper.counts, upper.links])
    return out.tobytes()
