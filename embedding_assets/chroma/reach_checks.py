"""Can a search come to every element of an index, and go on from there? Computed from the links, not by searching.

HNSW itself leaves some elements that nothing leads to, so this alone is no damage. How many it leaves was measured in
databases that chromadb built (`python -m benchmarks.reachability`; 500 to 20,000 records, random, clustered, half of
them one of ten texts, updated and deleted; the worst of each):

    links  cosine and l2  ip     without links of their own
    16     0.2 %          47 %   none
    8      1 %            50 %   none
    5      2.4 %          53 %   none
    4      6.8 %          54 %   none

Where half of all or more are copies of a few vectors, or almost, 21 % were seen even with 16 links: they link to one
another only. So two things count as damage: elements without links, at which every search ends; and many elements
that nothing leads to and that are no copies, unless the index has few links or is one of inner products. What is below
the limits is reported as a share, and costs recall.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedding_assets.chroma.graph import descended, reached
from embedding_assets.chroma.hnsw_files import LEVEL0_FILE, HnswFiles, UpperLinks

_MOST_ENDS = 0.005  # earlier versions of our own builder may have left one here or there
_MOST_UNREACHED = 0.05
_FEW_LINKS = 4
_COPIES = 0.01  # of the square of the distance between any two: nearer ones are copies, or almost
_ROUNDING = 1e-12  # of the square of a vector's length: what is nearer differs by rounding alone
_SAMPLE = 2000


@dataclass(frozen=True, slots=True)
class Reach:
    """What the links of an index allow.

    Attributes:
        live: elements that are not deleted.
        unreached: how many of these no search can come to, whatever it searches for.
        copies: how many of the unreached, as far as it matters, lie almost where another element lies.
        ends: how many live elements have no link, so that a search that comes there goes no further.
    """

    live: int
    unreached: int
    copies: int
    ends: int

    def problems(self, space: str, m: int) -> Iterator[str]:
        """Why this is more than HNSW leaves."""
        if self.live < 2:
            return
        if self.ends > _MOST_ENDS * self.live:
            yield f"{LEVEL0_FILE}: {self.ends} of {self.live} elements have no links, and searches end there"
        strict = space != "ip" and m > _FEW_LINKS
        if strict and self.unreached - self.copies > _MOST_UNREACHED * self.live:
            yield f"{LEVEL0_FILE}: no search can come to {self.unreached} of {self.live} elements"


def reach_of(files: HnswFiles, upper: UpperLinks) -> Reach:
    """Follow all links from the entry point; only for an index whose links lead to elements."""
    if files.header.count == 0:
        return Reach(0, 0, 0, 0)
    # In the file the links lie a whole vector apart.
    links = np.ascontiguousarray(files.links)
    seen = reached(files.link_counts, links, descended(upper, files.header.entry_point))
    live = np.asarray(files.deleted) == 0
    unreached, count = np.flatnonzero(live & ~seen), int(live.sum())
    ends = int((live & (np.asarray(files.link_counts) == 0)).sum())
    copies = _copies(files, links, unreached) if len(unreached) > _MOST_UNREACHED * count else 0
    return Reach(count, len(unreached), copies, ends)


def _copies(files: HnswFiles, links: npt.NDArray[np.uint32], elements: npt.NDArray[np.int64]) -> int:
    """How many of these elements lie almost where another one lies; estimated from some of them."""
    rng = np.random.default_rng(len(elements))
    some = elements if len(elements) <= _SAMPLE else rng.choice(elements, _SAMPLE, replace=False)
    pairs = rng.integers(files.header.count, size=(2, _SAMPLE))
    usual = float(_squares(files, pairs[0], pairs[1]).mean())
    lengths = np.einsum("ij,ij->i", files.vectors[pairs[0]], files.vectors[pairs[0]], dtype=np.float64)
    copy = max(_COPIES * usual, _ROUNDING * float(lengths.mean()))
    # The nearest stands first in some rows and last in others: all links of a row are looked at.
    nearest = np.full(len(some), np.inf)
    counts = files.link_counts[some]
    for column in range(links.shape[1]):
        has = np.flatnonzero(counts > column)
        nearest[has] = np.minimum(nearest[has], _squares(files, some[has], links[some[has], column]))
    # One that links to no copy of itself may have many all the same: they are looked for among some of all elements.
    alone, others = np.flatnonzero(nearest > copy), np.unique(pairs)
    mine, theirs = (files.vectors[chosen].astype(np.float64) for chosen in (some[alone], others))
    squares = (mine**2).sum(1)[:, None] + (theirs**2).sum(1)[None, :] - 2 * mine @ theirs.T
    squares[some[alone][:, None] == others[None, :]] = np.inf
    nearest[alone] = np.minimum(nearest[alone], squares.min(1, initial=np.inf))
    return round(float((nearest <= copy).mean()) * len(elements))


def _squares(
    files: HnswFiles, left: npt.NDArray[np.integer], right: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    difference = files.vectors[left].astype(np.float64) - files.vectors[right]
    squares: npt.NDArray[np.float64] = np.einsum("ij,ij->i", difference, difference)
    return squares
