"""What is wrong with one persisted HNSW index: its files against each other and against its pickle.

Only what cannot be so in an index that ChromaDB wrote is reported. Whether searches can come to its elements is the
question of `reach_checks`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from embedding_assets.chroma.hnsw_files import HEADER_FILE, LENGTH_FILE, LEVEL0_FILE, LINKS_FILE, HnswFiles, UpperLinks
from embedding_assets.chroma.index_metadata import INDEX_METADATA_FILE, IndexMetadata
from embedding_assets.chroma.sqlite_reader import Collection

_ROWS = 512  # elements looked at together: 3 MB of vectors at 1536 dimensions, which is memory used again
_UNIT_TOLERANCE = 1e-4  # float32 rounding stays below 1e-5 at 4,096 dimensions
_SMALLEST_NORM = 1e-15  # below it the squares underflow, and a unit vector may be none


def check_index(files: HnswFiles, upper: UpperLinks, metadata: IndexMetadata, collection: Collection) -> Iterator[str]:
    """Yield the reasons why the index is damaged; the metadata are those of a non-empty pickle."""
    header = files.header
    if header.m != collection.max_neighbors:
        yield f"{HEADER_FILE} has M {header.m}, the collection {collection.max_neighbors}"
    if header.ef_construction != max(collection.ef_construction, header.m):
        yield f"{HEADER_FILE} has ef_construction {header.ef_construction}, the collection {collection.ef_construction}"
    yield from _check_labels(files, metadata, collection)
    yield from _check_vectors(files, collection.space == "cosine")
    yield from _check_links(files, upper)


def _check_labels(files: HnswFiles, metadata: IndexMetadata, collection: Collection) -> Iterator[str]:
    labels_of, ids_of = metadata.id_to_label, metadata.label_to_id
    if metadata.dimensionality not in (None, collection.dimension):
        yield f"{INDEX_METADATA_FILE} is for {metadata.dimensionality} dimensions, not {collection.dimension}"
    if len(labels_of) != len(ids_of) or any(ids_of.get(label) != key for key, label in labels_of.items()):
        yield f"{INDEX_METADATA_FILE}: id_to_label and label_to_id are not inverse"
    count = files.header.count
    if metadata.total_elements_added != count:
        yield f"{INDEX_METADATA_FILE} counts {metadata.total_elements_added} elements, {HEADER_FILE} {count}"
    labels = np.asarray(files.labels)
    if len(np.unique(labels)) != count:
        yield f"{LEVEL0_FILE} has a label twice"
    if count and (labels.min() < 1 or labels.max() > metadata.total_elements_added):
        yield f"{LEVEL0_FILE} has labels beyond 1 to {metadata.total_elements_added}"
    flags = np.asarray(files.deleted)
    if flags.max(initial=0) > 1 or np.asarray(files.padding).any():
        yield f"{LEVEL0_FILE} has a delete flag that is neither 0 nor 1"
    live = np.sort(labels[flags == 0])
    named = np.sort(np.fromiter(labels_of.values(), dtype=np.int64, count=len(labels_of))).astype(np.uint64)
    if not np.array_equal(live, named):
        yield f"{LEVEL0_FILE} has {len(live)} live elements, which are not the {len(named)} of {INDEX_METADATA_FILE}"


def _check_vectors(files: HnswFiles, cosine: bool) -> Iterator[str]:
    for start in range(0, files.header.count, _ROWS):
        vectors = np.ascontiguousarray(files.vectors[start : start + _ROWS])
        if not np.isfinite(vectors).all():
            yield f"{LEVEL0_FILE} holds a vector that is not finite"
            return
        if not cosine:  # the norms of l2 and ip are memory that ChromaDB never set
            continue
        norms = files.norms[start : start + _ROWS]
        if not (np.isfinite(norms) & (norms >= 0)).all():
            yield f"{LENGTH_FILE} holds a norm that is not finite, or negative"
            return
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        if (np.abs(lengths - 1) > _UNIT_TOLERANCE)[norms > _SMALLEST_NORM].any():
            yield f"{LEVEL0_FILE} holds a vector that is not of unit length in a cosine index"
            return
        if (lengths[norms == 0] > _UNIT_TOLERANCE).any():
            yield f"{LENGTH_FILE} gives the norm 0 to a vector that is not zero"
            return


def _check_links(files: HnswFiles, upper: UpperLinks) -> Iterator[str]:
    header = files.header
    if header.count and (upper.levels[header.entry_point] != header.max_level or upper.levels.max() > header.max_level):
        yield f"{HEADER_FILE} and {LINKS_FILE} disagree about the entry point's level"
    for start in range(0, header.count, _ROWS):
        stop = min(start + _ROWS, header.count)
        own = np.arange(start, stop)
        problem = _links_problem(own, files.link_counts[start:stop], files.links[start:stop], header.count)
        if problem:
            yield f"{LEVEL0_FILE}: {problem}"
            return
    problem = _links_problem(upper.elements, upper.counts, upper.links, header.count)
    if problem:
        yield f"{LINKS_FILE}: {problem}"
        return
    used = np.arange(upper.links.shape[1]) < upper.counts[:, None]
    if (upper.levels[upper.links[used]] < np.broadcast_to(upper.row_levels[:, None], used.shape)[used]).any():
        yield f"{LINKS_FILE} links to an element that is not on that level"


def _links_problem(
    elements: npt.NDArray[np.int64],
    counts: npt.NDArray[np.uint16] | npt.NDArray[np.uint32],
    links: npt.NDArray[np.uint32],
    count: int,
) -> str | None:
    width = links.shape[1]
    if (counts > width).any():
        return f"an element has more than {width} links"
    used = np.arange(width) < counts[:, None]
    if (links[used] >= count).any():
        return f"a link leads beyond the {count} elements"
    if (used & (links == elements[:, None])).any():
        return "an element links to itself"
    return None
