"""usearch's file of an index, read and written as columns.

    u32 rows, u32 bytes a vector, then the vectors
    64 bytes: "usearch", u16 x 3 version, u8 x 4 kinds, u64 elements, u64 deleted, u64 dimensions, u8 multi
    u64 x 5: elements, M, 2M, highest level, entry point
    i16 per element: its level
    per element: u64 key, i16 level, u32 count and u32 x 2M links; then per upper level u32 count and u32 x M links

Source: `save_to_stream` and `load_from_stream` in usearch's index_dense.hpp and index.hpp, 2.21; what 2.26 writes and
reads is the same. Whether that holds for the installed version is what `format_is_known` finds out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from usearch.index import Index

from embedding_assets.chroma.graph import Elements, Graph
from embedding_assets.chroma.hnsw_files import UpperLinks
from embedding_assets.scratch import ScratchFolder

_HEAD = 64
_HEAD_ELEMENTS = slice(17, 25)
_HEAD_DELETED = slice(25, 33)
_BEFORE_LINKS = 8 + 2
_ROWS = 4096  # elements looked at together

Bytes = npt.NDArray[np.uint8]


@functools.cache
def format_is_known() -> bool:
    """Whether the installed usearch writes a small index as this module does, byte for byte, and reads it back."""
    vectors = np.random.default_rng(1).integers(-100, 100, (300, 8)).astype(np.int8)
    keys = np.arange(300) * 7
    try:
        index = new_index(8, "ip", "i8", m=4, expansion=20)
        index.add(keys, vectors, threads=1)
        with ScratchFolder("graph") as scratch:
            theirs, ours = scratch / "theirs", scratch / "ours"
            index.save(str(theirs))
            graph, read_keys = read_file(theirs, 4)
            write_file(ours, index, graph, read_keys, [vectors[read_keys // 7]])
            if theirs.read_bytes() != ours.read_bytes():
                return False
            again = new_index(8, "ip", "i8", m=4, expansion=20)
            again.load(str(ours))
            again.add(np.arange(3) + 5000, vectors[:3], threads=1)
            return len(again) == 303
    except Exception:  # whatever it raises, its format is not the one we know
        return False


def new_index(dimension: int, metric: str, scalar: str, *, m: int, expansion: int) -> Any:
    """An empty usearch index; nothing is looked up in it by key."""
    return Index(
        ndim=dimension,
        metric=metric,
        dtype=scalar,
        connectivity=m,
        expansion_add=expansion,
        enable_key_lookups=False,
    )


def read_file(path: Path, m: int) -> tuple[Graph, Elements]:
    """The graph of a saved index that is not empty, its elements numbered as in the file, and their keys."""
    data: Bytes = np.memmap(path, dtype=np.uint8, mode="r")
    rows, width = (int(number) for number in data[:8].view("<u4"))
    at = 8 + rows * width + _HEAD
    _, _, _, _, entry = (int(number) for number in np.frombuffer(data[at : at + 40].tobytes(), "<u8"))
    at += 40
    levels = np.frombuffer(data[at : at + 2 * rows].tobytes(), "<i2").astype(np.int32)
    starts = at + 2 * rows + _starts(levels, m)
    keys = np.empty(rows, np.int64)
    counts, links = np.empty(rows, np.uint32), np.empty((rows, 2 * m), np.uint32)
    for begin in range(0, rows, _ROWS):
        part = slice(begin, begin + _ROWS)
        block = data[starts[part, None] + np.arange(_base_bytes(m))]
        keys[part] = np.ascontiguousarray(block[:, :8]).view("<u8")[:, 0]
        numbers = np.ascontiguousarray(block[:, _BEFORE_LINKS:]).view("<u4")
        counts[part], links[part] = numbers[:, 0], numbers[:, 1:]
    owners, row_levels, places = _upper_rows(levels, starts, m)
    table = data[places].view("<u4")
    upper = UpperLinks(levels, owners, row_levels, table[:, 0].copy(), table[:, 1:].copy())
    return Graph(counts, links, upper, entry), keys


def write_file(path: Path, like: Any, graph: Graph, keys: Elements, vectors: Iterable[npt.NDArray[Any]]) -> None:
    """Write an index that usearch can load.

    Args:
        path: where.
        like: an index of the same kind, from which the head is taken; it holds at least one element.
        graph: who links to whom.
        keys: of each element.
        vectors: in the index's own type, in pieces; n rows in all.
    """
    m, count = graph.links.shape[1] // 2, len(graph)
    head = _head(like)
    head[_HEAD_ELEMENTS] = np.asarray([count], "<u8").view(np.uint8)
    head[_HEAD_DELETED] = 0
    levels = graph.upper.levels
    starts = _starts(levels, m)
    nodes = np.zeros(int(starts[-1]) + _node_bytes(levels[-1:], m)[0], np.uint8)
    for begin in range(0, count, _ROWS):
        part = slice(begin, begin + _ROWS)
        block = np.empty((len(levels[part]), _base_bytes(m)), np.uint8)
        block[:, :8] = _bytes(keys[part], "<u8")
        block[:, 8:_BEFORE_LINKS] = _bytes(levels[part], "<i2")
        block[:, _BEFORE_LINKS : _BEFORE_LINKS + 4] = _bytes(graph.counts[part], "<u4")
        block[:, _BEFORE_LINKS + 4 :] = _bytes(_cut(graph.counts[part], graph.links[part]), "<u4")
        nodes[starts[part, None] + np.arange(_base_bytes(m))] = block
    upper = graph.upper
    _, _, places = _upper_rows(levels, starts, m)
    nodes[places] = _bytes(np.column_stack([upper.counts, _cut(upper.counts, upper.links)]), "<u4")
    with path.open("wb") as file:
        file.seek(8)
        for piece in vectors:
            np.ascontiguousarray(piece).tofile(file)
        width = (file.tell() - 8) // count
        file.write(head.tobytes())
        file.write(np.asarray([count, m, 2 * m, graph.max_level, graph.entry_point], "<u8").tobytes())
        file.write(levels.astype("<i2").tobytes())
        file.write(nodes.data)
        file.seek(0)
        file.write(np.asarray([count, width], "<u4").tobytes())


def _head(like: Any) -> Bytes:
    with ScratchFolder("graph") as scratch:
        path = scratch / "head"
        like.save(str(path))
        data = path.read_bytes()
    rows, width = (int(number) for number in np.frombuffer(data[:8], "<u4"))
    head: Bytes = np.frombuffer(data, np.uint8, _HEAD, 8 + rows * width).copy()
    return head


def _base_bytes(m: int) -> int:
    return _BEFORE_LINKS + 4 + 4 * 2 * m


def _node_bytes(levels: npt.NDArray[np.int32], m: int) -> Elements:
    return _base_bytes(m) + levels.astype(np.int64) * (4 + 4 * m)


def _starts(levels: npt.NDArray[np.int32], m: int) -> Elements:
    sizes = _node_bytes(levels, m)
    return np.cumsum(sizes) - sizes


def _upper_rows(
    levels: npt.NDArray[np.int32], starts: Elements, m: int
) -> tuple[Elements, npt.NDArray[np.int32], Elements]:
    """Of every (element, level above 0), in this order: the element, the level, and where each byte of it stands."""
    owners = np.repeat(np.arange(len(levels)), levels)
    firsts = np.repeat(np.cumsum(levels) - levels, levels)
    row_levels = (np.arange(len(owners)) - firsts + 1).astype(np.int32)
    begins = starts[owners] + _base_bytes(m) + (row_levels - 1) * (4 + 4 * m)
    return owners, row_levels, begins[:, None] + np.arange(4 + 4 * m)


def _cut(counts: npt.NDArray[np.uint32], links: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Links with zeros where they mean nothing, as usearch has it."""
    return np.where(np.arange(links.shape[1]) < counts[:, None], links, np.uint32(0))


def _bytes(values: npt.NDArray[Any], kind: str) -> Bytes:
    width = np.dtype(kind).itemsize * (values.shape[1] if values.ndim > 1 else 1)
    return np.ascontiguousarray(values.astype(kind)).view(np.uint8).reshape(len(values), width)
