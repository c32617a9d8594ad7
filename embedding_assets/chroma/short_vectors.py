"""Vectors in one or two bytes a dimension, in which an index's graph is built: less memory to move, faster arithmetic.

Only who links to whom is decided by them; the index holds float32 vectors, and a search compares those. At 1,536
dimensions the graph is made twice as fast as in float32, and finds as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from embedding_assets.records import Vectors, slices

_ROWS = 1024  # rows converted together: 6 MB at 1,536 dimensions
_LARGEST = 127
# A vector of fewer steps in the mean square loses more than a hundredth of itself by rounding. Those of an embedding
# model have 12 to 26; vectors of very different lengths, or with nearly all in one dimension, may have none.
_FEWEST_STEPS = 6.0


@dataclass(frozen=True, slots=True)
class ShortVectors:
    """Short vectors, all on one scale so that their products and differences compare as those of the long ones.

    Attributes:
        scalar: `i8`, or `bf16`, which is as wide as float32 and half as fast as i8; as usearch calls them.
        rows: int8, or the bits of bf16 as uint16; shape (n, D).
    """

    scalar: str
    rows: npt.NDArray[Any]


def shorten(vectors: Vectors) -> ShortVectors:
    """Short ones of these finite vectors, shape (n, D)."""
    largest, fewest = _extent(vectors)
    if largest == 0 or _LARGEST * fewest >= _FEWEST_STEPS * largest:
        rows = np.empty(vectors.shape, np.int8)
        scale = np.float32(_LARGEST / largest if largest else 1)
        for some in slices(len(vectors), _ROWS):
            rows[some] = np.rint(vectors[some] * scale)
        return ShortVectors("i8", rows)
    bits = np.empty(vectors.shape, np.uint16)
    for some in slices(len(vectors), _ROWS):
        whole = np.ascontiguousarray(vectors[some]).view(np.uint32)
        bits[some] = (whole + 0x7FFF + ((whole >> 16) & 1)) >> 16
    return ShortVectors("bf16", bits)


def _extent(vectors: Vectors) -> tuple[float, float]:
    """The largest number, and the least root of the mean square of a vector that is not zero."""
    largest, least = 0.0, np.inf
    for some in slices(len(vectors), _ROWS):
        part = np.ascontiguousarray(vectors[some])
        largest = max(largest, float(np.abs(part).max()))
        squares = np.einsum("ij,ij->i", part, part) / vectors.shape[1]
        least = min(least, float(squares[squares > 0].min(initial=np.inf)))
    return largest, float(np.sqrt(least))
