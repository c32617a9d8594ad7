"""The links of an HNSW index as columns, apart from its vectors and its files: what a merge takes apart and mends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedding_assets.chroma.hnsw_files import HnswFiles, UpperLinks

Elements = npt.NDArray[np.int64]

_FEW = 64  # one in so many


@dataclass(frozen=True, slots=True)
class Graph:
    """Who links to whom; elements are numbered from 0.

    Attributes:
        counts: level-0 links of each element, shape (n,).
        links: level-0 links; the first `counts` of a row mean something; shape (n, 2M).
        upper: the levels of all elements, and the links above level 0, sorted by element and level.
        entry_point: where every search begins: an element of the highest level.
    """

    counts: npt.NDArray[np.uint32]
    links: npt.NDArray[np.uint32]
    upper: UpperLinks
    entry_point: int

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def max_level(self) -> int:
        """The entry point's level."""
        return int(self.upper.levels[self.entry_point])


def graph_of(files: HnswFiles) -> Graph:
    """The graph of a persisted index that holds at least one element."""
    counts, links = files.link_counts.astype(np.uint32), np.ascontiguousarray(files.links)
    return Graph(counts, links, files.upper_links(), files.header.entry_point)


def reached(
    counts: npt.NDArray[np.integer], links: npt.NDArray[np.uint32], start: int | Elements
) -> npt.NDArray[np.bool_]:
    """Which elements can be reached over level-0 links from this one, or these, themselves included; shape (n,)."""
    seen = np.zeros(len(counts), dtype=bool)
    _spread(counts, links, start, seen)
    return seen


def descended(upper: UpperLinks, entry_point: int) -> Elements:
    """Every element in which a search's way down through the upper levels can end, whatever it searches for."""
    ends = np.asarray([entry_point], dtype=np.int64)
    for level in range(int(upper.levels[entry_point]), 0, -1):
        rows = np.flatnonzero(upper.row_levels == level)
        members = upper.elements[rows]  # in ascending order
        links = np.searchsorted(members, np.minimum(upper.links[rows], members[-1])).astype(np.uint32)
        ends = members[reached(upper.counts[rows], links, np.searchsorted(members, ends))]
    return ends


def _spread(
    counts: npt.NDArray[np.integer],
    links: npt.NDArray[np.uint32],
    start: int | Elements,
    seen: npt.NDArray[np.bool_],
) -> None:
    """Mark in `seen` what can be reached from an element; what was marked before is not gone through again."""
    frontier = np.atleast_1d(np.asarray(start, dtype=np.int64))
    width = np.arange(links.shape[1])
    while len(frontier):
        seen[frontier] = True
        found = links[frontier][width < counts[frontier][:, None]]
        found = found[~seen[found]]
        if len(found) > len(seen) // _FEW:  # to sort many costs more than to look at every element
            new = np.zeros(len(seen), dtype=bool)
            new[found] = True
            frontier = np.flatnonzero(new)
        else:
            frontier = np.unique(found).astype(np.int64)


def project(graph: Graph, kept: Elements, stands: Elements) -> Graph:
    """The graph among some of its elements.

    Args:
        graph: of n elements.
        kept: the elements that stay, shape (k,); they are numbered anew, in this order.
        stands: for every element the kept one that takes over the links to it, or -1; shape (n,). It must be on no
            lower level.
    """
    new = np.full(len(graph) + 1, -1, dtype=np.int64)
    new[kept] = np.arange(len(kept))
    to = new[stands]
    counts, links = _redirected(graph.counts[kept], graph.links[kept], to, np.arange(len(kept)))
    upper = graph.upper
    rows = np.flatnonzero(new[upper.elements] >= 0)
    owners = new[upper.elements[rows]]
    order = np.lexsort((upper.row_levels[rows], owners))
    rows, owners = rows[order], owners[order]
    upper_counts, upper_links = _redirected(upper.counts[rows], upper.links[rows], to, owners)
    levels = upper.levels[kept]
    entry = int(new[graph.entry_point])
    if entry < 0:
        entry = int(np.argmax(levels))
    return Graph(counts, links, UpperLinks(levels, owners, upper.row_levels[rows], upper_counts, upper_links), entry)


def _redirected(
    counts: npt.NDArray[np.uint32], links: npt.NDArray[np.uint32], to: Elements, owners: Elements
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Rows of links with every target replaced; none leads to -1, to the row's owner, or twice to the same."""
    used = np.arange(links.shape[1]) < counts[:, None]
    target = np.where(used, to[np.where(used, links, 0)], -1)
    target[target == owners[:, None]] = -1
    target = -np.sort(-target, axis=1)
    target[:, 1:][target[:, 1:] == target[:, :-1]] = -1
    target = -np.sort(-target, axis=1)
    return (target >= 0).sum(axis=1, dtype=np.uint32), np.maximum(target, 0).astype(np.uint32)


def hang_equals(graph: Graph, stands: Elements) -> None:
    """Link every element that another one stands for into a chain of its equals that begins at that one.

    HNSW keeps an element's nearest, so many equal vectors link to nothing but one another, and a search that comes to
    them goes no further: on real receipts, where a tenth of all lines is one of ten texts, an exact query missed one
    unique line in seven. So only one of each takes part in the graph, and the rest hang on it, one link each.
    """
    hung = np.flatnonzero(stands != np.arange(len(graph)))
    hung = hung[np.argsort(stands[hung], kind="stable")]
    if not len(hung):
        return
    first = np.r_[True, stands[hung][1:] != stands[hung][:-1]]
    before = np.where(first, stands[hung], np.r_[0, hung[:-1]])
    graph.links[hung, 0] = stands[hung]
    graph.counts[hung] = 1
    graph.links[hung[~first], 1] = before[~first]
    graph.counts[hung[~first]] = 2
    at = _append_links(graph, before, hung)
    # What comes last makes room for others later, and the whole chain hangs on this one link.
    graph.links[before, at], graph.links[before, 0] = graph.links[before, 0], graph.links[before, at]


def _append_links(graph: Graph, sources: Elements, targets: Elements) -> npt.NDArray[np.uint32]:
    """One more link for each of these different sources; where there is no room, it takes the place of the last.

    Returns:
        Where the new links stand.
    """
    at: npt.NDArray[np.uint32] = np.minimum(graph.counts[sources], graph.links.shape[1] - 1)
    graph.links[sources, at] = targets
    graph.counts[sources] = at + 1
    return at


def mend(graph: Graph) -> int:
    """Make every element reachable over level-0 links from the entry point; returns how many were not.

    None is left without links: a search that comes there would go no further.
    """
    seen = reached(graph.counts, graph.links, graph.entry_point)
    lost = np.flatnonzero(~seen)
    for element in lost:
        if not seen[element]:
            _link_in(graph, int(element), seen)
            _spread(graph.counts, graph.links, int(element), seen)
    for end in np.flatnonzero(graph.counts == 0) if len(graph) > 1 else ():
        used = np.arange(graph.links.shape[1]) < graph.counts[:, None]
        leads_here = np.flatnonzero((used & (graph.links == end)).any(axis=1))
        if len(leads_here):  # as it does, unless all begins here
            _append_links(graph, np.asarray([end]), leads_here[:1])
    return len(lost)


def _link_in(graph: Graph, element: int, seen: npt.NDArray[np.bool_]) -> None:
    """Let an element that is reached link to this one, by preference one that is near: a neighbour of it."""
    own = graph.links[element, : graph.counts[element]]
    near = own[seen[own]] if seen[own].any() else np.asarray([graph.entry_point], dtype=np.uint32)
    roomy = near[graph.counts[near] < graph.links.shape[1]]
    source = int(roomy[0]) if len(roomy) else int(near[0])
    if not len(roomy):
        # What loses its link is reached through the element instead.
        pushed_out = int(graph.links[source, -1])
        if pushed_out not in own:
            _append_links(graph, np.asarray([element]), np.asarray([pushed_out]))
    _append_links(graph, np.asarray([source]), np.asarray([element]))
