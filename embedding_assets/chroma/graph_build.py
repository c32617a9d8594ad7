"""Builds the graph of an index, or extends one: usearch does it, on short vectors and on all cores."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from embedding_assets.chroma import usearch_file
from embedding_assets.chroma.graph import Elements, Graph, hang_equals, mend, project, reached
from embedding_assets.chroma.hnsw_files import UpperLinks
from embedding_assets.chroma.short_vectors import ShortVectors, shorten
from embedding_assets.records import Vectors, slices
from embedding_assets.scratch import ScratchFolder

_METRICS = {"cosine": "ip", "ip": "ip", "l2": "l2sq"}  # a cosine index holds unit vectors
_ROWS = 8192  # vectors handed over together


def build_graph(vectors: Vectors, space: str, m: int, ef_construction: int, base: Graph | None = None) -> Graph:
    """The graph of these vectors.

    Every element can be reached; of equal vectors one takes part in the graph and the others hang on it. Elements that
    the base has lost, because they cannot be reached or have only equals as neighbours, are inserted anew.

    Args:
        vectors: as the index holds them, at least one; shape (n, D), may be a view of a file.
        space: `cosine`, `l2` or `ip`.
        m, ef_construction: as HNSW calls them.
        base: the graph of the first of them, which is extended.
    """
    short = shorten(vectors)
    stands = _representatives(short, base.upper.levels if base else np.empty(0, np.int32))
    takes_part = np.flatnonzero(stands == np.arange(len(vectors)))
    kept, old = _sound_part(base, takes_part, stands) if base else (np.empty(0, np.int64), None)
    index = usearch_file.new_index(
        vectors.shape[1], _METRICS[space], short.scalar, m=m, expansion=max(ef_construction, m)
    )
    with ScratchFolder("graph") as scratch:
        path = scratch / "graph"
        if old:
            like = usearch_file.new_index(vectors.shape[1], _METRICS[space], short.scalar, m=m, expansion=m)
            _insert(like, np.zeros(1, np.int64), vectors, short)
            pieces = (short.rows[kept[some]] for some in slices(len(kept), _ROWS))
            usearch_file.write_file(path, like, old, kept, pieces)
            index.load(str(path))
            index.expansion_add = max(ef_construction, m)
        _insert(index, np.setdiff1d(takes_part, kept, assume_unique=True), vectors, short)
        index.save(str(path))
        graph = _spread(*usearch_file.read_file(path, m), len(vectors))
    hang_equals(graph, stands)
    mend(graph)
    return graph


def _representatives(short: ShortVectors, levels: npt.NDArray[np.int32]) -> Elements:
    """For each element the one that stands for all equal ones: the one on the highest level, and of those the first."""
    # 64 bits of hash: two that are not equal may be taken for it once in the life of a universe, and then hang too.
    keys = np.fromiter((hash(row.tobytes()) for row in short.rows), dtype=np.int64, count=len(short.rows))
    height = np.full(len(keys), -1, dtype=np.int32)
    height[: len(levels)] = levels
    order = np.lexsort((-height, keys))
    first = np.r_[True, keys[order][1:] != keys[order][:-1]]
    stands = np.empty(len(keys), dtype=np.int64)
    stands[order] = order[first][np.cumsum(first) - 1]
    return stands


def _sound_part(base: Graph, takes_part: Elements, stands: Elements) -> tuple[Elements, Graph | None]:
    """The elements of the base whose links can go on being used, and the graph among them."""
    stands = stands[: len(base)]
    kept = takes_part[takes_part < len(base)]
    graph = project(base, kept, stands)
    # One link may have led to an equal one without harm: that is how they hang.
    poor = graph.counts * 2 + 2 < base.counts[kept]
    sound = reached(graph.counts, graph.links, graph.entry_point) & ~poor
    while not sound.all():
        kept = kept[sound]
        if len(kept) < len(takes_part) // 4:
            return kept[:0], None
        stands = np.where(np.isin(stands, kept), stands, -1)
        graph = project(base, kept, stands)
        sound = reached(graph.counts, graph.links, graph.entry_point)
    return kept, graph


def _insert(index: Any, elements: Elements, vectors: Vectors, short: ShortVectors) -> None:
    threads = len(os.sched_getaffinity(0))
    # usearch takes bf16 only as float32, and shortens it as we do.
    rows = short.rows if short.scalar == "i8" else vectors
    for some in slices(len(elements), _ROWS):
        index.add(elements[some], np.ascontiguousarray(rows[elements[some]]), threads=threads)


def _spread(graph: Graph, keys: Elements, count: int) -> Graph:
    """The graph with its elements numbered by their keys, among `count` of which some have no links yet."""
    counts, links = np.zeros(count, np.uint32), np.zeros((count, graph.links.shape[1]), np.uint32)
    to = keys.astype(np.uint32)
    counts[keys], links[keys] = graph.counts, to[graph.links]
    upper = graph.upper
    levels = np.zeros(count, np.int32)
    levels[keys] = upper.levels
    order = np.lexsort((upper.row_levels, keys[upper.elements]))
    owners, row_levels = keys[upper.elements[order]], upper.row_levels[order]
    spread = UpperLinks(levels, owners, row_levels, upper.counts[order], to[upper.links[order]])
    return Graph(counts, links, spread, int(keys[graph.entry_point]))
