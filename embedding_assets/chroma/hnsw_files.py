"""The four files of a persisted HNSW index, as memory-mapped arrays whose bounds are checked before anything is read.

    header.bin       100 bytes: version, offsets, counts, entry point, M, ef_construction
    data_level0.bin  per element: u16 link count, u8 delete flag, u8 zero, u32 x 2M links, float32 x D, u64 label
    length.bin       float32 per element: the vector's norm for cosine, never written (garbage) for l2 and ip
    link_lists.bin   per element: u32 size in bytes, then per upper level u32 link count and u32 x M links

The second and third are preallocated, so they may hold more elements than the index has; what lies beyond the
count means nothing. The order of elements is that of insertion, by several threads, hence not that of the labels.
"""

from __future__ import annotations

import math
import struct
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HEADER_FILE = "header.bin"
LEVEL0_FILE = "data_level0.bin"
LENGTH_FILE = "length.bin"
LINKS_FILE = "link_lists.bin"
HNSW_FILES = (HEADER_FILE, LEVEL0_FILE, LENGTH_FILE, LINKS_FILE)

NO_ENTRY_POINT = 2**32 - 1
_HEADER = struct.Struct("<iQQQQQQiIQQQdQ")
_MAX_LINKS = 1 << 14


@dataclass(frozen=True, slots=True)
class Header:
    """`header.bin`, field by field in the file's order."""

    version: int
    offset_level0: int
    max_elements: int
    count: int
    element_size: int
    label_offset: int
    data_offset: int
    max_level: int
    entry_point: int
    max_links: int
    max_links0: int
    m: int
    level_multiplier: float
    ef_construction: int


@dataclass(frozen=True, slots=True)
class UpperLinks:
    """`link_lists.bin` as columns, one row per (element, level above 0).

    Attributes:
        levels: the highest level of each element, shape (count,).
        elements: the internal id of each row, shape (rows,).
        row_levels: the level of each row, from 1, shape (rows,).
        counts: the number of links of each row, shape (rows,).
        links: internal ids; only the first `counts` of a row mean anything; shape (rows, M).
    """

    levels: npt.NDArray[np.int32]
    elements: npt.NDArray[np.int64]
    row_levels: npt.NDArray[np.int32]
    counts: npt.NDArray[np.uint32]
    links: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class HnswFiles:
    """One index on disk; every array has `header.count` rows and is a read-only view of the mapped file.

    Attributes:
        header: checked against the sizes of the files.
        dimension: D.
        labels: uint64, shape (n,).
        deleted: the delete flag, uint8, 0 or 1 in a sound index; shape (n,).
        padding: the byte after it, always 0 in a sound index; shape (n,).
        link_counts: level-0 links of each element, uint16, shape (n,).
        links: level-0 links as internal ids, uint32, shape (n, 2M); the first `link_counts` of a row mean something.
        vectors: float32, shape (n, D); unit vectors for cosine.
        norms: float32, shape (n,); garbage unless the distance is cosine.
    """

    folder: Path
    header: Header
    dimension: int
    labels: npt.NDArray[np.uint64]
    deleted: npt.NDArray[np.uint8]
    padding: npt.NDArray[np.uint8]
    link_counts: npt.NDArray[np.uint16]
    links: npt.NDArray[np.uint32]
    vectors: npt.NDArray[np.float32]
    norms: npt.NDArray[np.float32]

    def upper_links(self) -> UpperLinks:
        """Parse `link_lists.bin` to its last byte; ValueError if it does not fit the header."""
        return _read_upper_links(self.folder / LINKS_FILE, self.header)


def parse_header(data: bytes) -> Header:
    """`header.bin` from its bytes; ValueError unless its fields agree with one another."""
    if len(data) != _HEADER.size:
        raise ValueError(f"{HEADER_FILE} has {len(data)} bytes, not {_HEADER.size}")
    header = Header(*_HEADER.unpack(data))
    if header.version != 1:
        raise ValueError(f"{HEADER_FILE} is of version {header.version}, not 1")
    if not 2 <= header.m <= _MAX_LINKS:
        raise ValueError(f"{HEADER_FILE} gives M as {header.m}")
    wanted = {
        "offset_level0": 0,
        "max_links": header.m,
        "max_links0": 2 * header.m,
        "data_offset": 4 + 8 * header.m,
        "element_size": header.label_offset + 8,
    }
    for field, value in wanted.items():
        if getattr(header, field) != value:
            raise ValueError(f"{HEADER_FILE}: {field} is {getattr(header, field)}, not {value}")
    if header.label_offset <= header.data_offset or (header.label_offset - header.data_offset) % 4:
        raise ValueError(f"{HEADER_FILE}: label_offset is {header.label_offset}")
    if not math.isclose(header.level_multiplier, 1 / math.log(header.m), rel_tol=1e-12):
        raise ValueError(f"{HEADER_FILE}: the level multiplier is {header.level_multiplier}")
    if header.count > header.max_elements:
        raise ValueError(f"{HEADER_FILE}: {header.count} elements where at most {header.max_elements} fit")
    if header.count == 0:
        if (header.max_level, header.entry_point) != (-1, NO_ENTRY_POINT):
            raise ValueError(f"{HEADER_FILE}: an entry point into an empty index")
    elif header.entry_point >= header.count or not 0 <= header.max_level <= 64:
        raise ValueError(f"{HEADER_FILE}: entry point {header.entry_point} at level {header.max_level}")
    return header


def pack_header(header: Header) -> bytes:
    """The inverse of `parse_header`."""
    return _HEADER.pack(*astuple(header))


def open_hnsw(folder: Path, dimension: int) -> HnswFiles:
    """Map the index in this segment folder.

    Args:
        folder: the VECTOR segment's folder.
        dimension: of the collection.

    Raises:
        ValueError: a file is missing, or does not fit the header or the dimension.
    """
    for name in HNSW_FILES:
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
    with (folder / HEADER_FILE).open("rb") as file:
        header = parse_header(file.read(_HEADER.size + 1))
    if header.label_offset - header.data_offset != 4 * dimension:
        raise ValueError(
            f"{HEADER_FILE} is for {(header.label_offset - header.data_offset) // 4} dimensions, "
            f"the collection has {dimension}"
        )
    level0 = _map(folder / LEVEL0_FILE)
    lengths = _map(folder / LENGTH_FILE)
    count, size = header.count, header.element_size
    slots, rest = divmod(len(level0), size)
    if rest or slots < count or slots > header.max_elements:
        raise ValueError(
            f"{LEVEL0_FILE} has {len(level0)} bytes, which are not the {count} to {header.max_elements} "
            f"elements of {size} bytes of {HEADER_FILE}"
        )
    if header.max_elements > max(1024, 8 * count, slots):  # ChromaDB would allocate it: a wrong one ends the process
        raise ValueError(f"{HEADER_FILE} has room for {header.max_elements} elements, far beyond its {count}")
    if len(lengths) != 4 * slots:
        raise ValueError(f"{LENGTH_FILE} has {len(lengths)} bytes, {LEVEL0_FILE} {slots} elements of 4 bytes there")

    def column(dtype: str, offset: int, width: int | None = None) -> npt.NDArray[Any]:
        kind = np.dtype(dtype)
        if count == 0:
            return np.empty((0,) if width is None else (0, width), dtype=kind)
        shape = (count,) if width is None else (count, width)
        strides = (size,) if width is None else (size, kind.itemsize)
        # The last byte touched lies within count * size, which was compared with the file's size above.
        view: npt.NDArray[Any] = np.ndarray(shape, dtype=kind, buffer=level0.data, offset=offset, strides=strides)
        return view

    return HnswFiles(
        folder=folder,
        header=header,
        dimension=dimension,
        labels=column("<u8", header.label_offset),
        deleted=column("u1", 2),
        padding=column("u1", 3),
        link_counts=column("<u2", 0),
        links=column("<u4", 4, 2 * header.m),
        vectors=column("<f4", header.data_offset, dimension),
        norms=lengths[: 4 * count].view("<f4"),
    )


def _map(path: Path) -> npt.NDArray[np.uint8]:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.empty(0, dtype=np.uint8)
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))


def _read_upper_links(path: Path, header: Header) -> UpperLinks:
    data = path.read_bytes()
    per_level = 4 + 4 * header.m
    levels = np.zeros(header.count, dtype=np.int32)
    starts: list[int] = []
    owners: list[int] = []
    position, end = 0, len(data)
    for element in range(header.count):
        if position + 4 > end:
            raise ValueError(f"{LINKS_FILE} ends at element {element} of {header.count}")
        size = int.from_bytes(data[position : position + 4], "little")
        position += 4
        if size:
            if size % per_level or size > end - position:
                raise ValueError(f"{LINKS_FILE}: {size} bytes of links for element {element}")
            levels[element] = size // per_level
            starts.append(position)
            owners.append(element)
            position += size
    if position != end:
        raise ValueError(f"{LINKS_FILE} has {end - position} bytes beyond its last element")
    body = b"".join(
        data[start : start + per_level * int(levels[owner])] for start, owner in zip(starts, owners, strict=True)
    )
    table = np.frombuffer(body, dtype="<u4").reshape(-1, 1 + header.m)
    own = levels[owners]
    elements = np.repeat(np.asarray(owners, dtype=np.int64), own)
    row_levels = np.concatenate([np.arange(1, n + 1, dtype=np.int32) for n in own]) if owners else np.zeros(0, np.int32)
    return UpperLinks(levels, elements, row_levels, table[:, 0], table[:, 1:])
