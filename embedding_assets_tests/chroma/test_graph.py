"""Graphs of HNSW indexes: built from short vectors, extended, with equal vectors aside, and every element reachable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedding_assets.chroma import usearch_file
from embedding_assets.chroma.graph import Graph, hang_equals, mend, project, reached
from embedding_assets.chroma.graph_build import build_graph
from embedding_assets.chroma.hnsw_files import UpperLinks
from embedding_assets.chroma.short_vectors import shorten

M, EF = 8, 60


def vectors_of(seed: int, count: int, dimension: int = 24) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_installed_usearch_writes_the_format_that_is_known() -> None:
    assert usearch_file.format_is_known()


def test_a_written_file_is_read_back_as_it_was(tmp_path: Path) -> None:
    vectors = vectors_of(1, 900)
    graph = build_graph(vectors, "cosine", M, EF)
    short = shorten(vectors)
    like = usearch_file.new_index(24, "ip", short.scalar, m=M, expansion=EF)
    like.add(np.zeros(1, np.int64), short.rows[:1])
    keys = np.random.default_rng(2).permutation(900)
    usearch_file.write_file(tmp_path / "graph", like, graph, keys, [short.rows[:500], short.rows[500:]])
    read, read_keys = usearch_file.read_file(tmp_path / "graph", M)
    assert (read_keys == keys).all()
    assert links_of(read) == links_of(graph)
    assert read.entry_point == graph.entry_point
    for mine, theirs in zip(columns(read.upper), columns(graph.upper), strict=True):
        assert (mine == theirs).all()


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_a_graph_of_a_few_is_extended_as_any_other(count: int) -> None:
    vectors = vectors_of(9, 2 * count)
    grown = build_graph(vectors, "cosine", M, EF, build_graph(vectors[:count], "cosine", M, EF))
    assert reached(grown.counts, grown.links, grown.entry_point).all()


@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
def test_an_extended_graph_finds_as_much_as_one_that_was_made_at_once(space: str) -> None:
    vectors = vectors_of(3, 3000)
    base = build_graph(vectors[:2000], space, M, EF)
    grown, whole = build_graph(vectors, space, M, EF, base), build_graph(vectors, space, M, EF)
    queries = vectors_of(4, 100)
    assert recall(grown, vectors, queries) > recall(whole, vectors, queries) - 0.03
    assert reached(grown.counts, grown.links, grown.entry_point).all()
    # What was well linked before stays as it was, except for links to the new ones.
    assert (grown.upper.levels[:2000] == base.upper.levels).all()


def test_of_equal_vectors_one_takes_part_and_all_are_reachable() -> None:
    vectors = vectors_of(5, 2000)
    vectors[100:900] = vectors[7]
    vectors[900:910] = vectors[950]
    graph = build_graph(vectors, "cosine", M, EF)
    assert reached(graph.counts, graph.links, graph.entry_point).all()
    # All but one of the 801 have nothing but two or three links: to that one, and along the chain.
    assert (graph.counts[[7, *range(100, 900)]] <= 3).sum() == 800
    grown = build_graph(np.concatenate([vectors, vectors[7:107]]), "cosine", M, EF, graph)
    assert reached(grown.counts, grown.links, grown.entry_point).all()
    assert recall(grown, np.concatenate([vectors, vectors[7:107]]), vectors[920:1020]) > 0.9


def test_equal_vectors_that_shut_each_other_in_are_opened_when_a_graph_is_extended() -> None:
    vectors = vectors_of(6, 1200)
    vectors[200:300] = vectors[0]
    whole = build_graph(vectors[:1000], "cosine", M, EF)
    # As HNSW itself links them: an equal one is as near as can be, so nothing else is kept.
    equals = np.r_[0, 200:300]
    for element in equals:
        others = equals[equals != element][: 2 * M]
        whole.links[element], whole.counts[element] = others, len(others)
    assert not reached(whole.counts, whole.links, 0).all()
    grown = build_graph(vectors, "cosine", M, EF, whole)
    assert reached(grown.counts, grown.links, grown.entry_point).all()
    assert recall(grown, vectors, vectors[300:400]) > 0.9


def test_what_cannot_be_reached_is_linked_in_and_nothing_falls_out() -> None:
    rng = np.random.default_rng(7)
    # Full rows, so that every new link takes the place of another one, in four parts that know nothing of each other.
    count, width = 400, 4
    links = np.concatenate([rng.integers(0, 100, (100, width)) + 100 * part for part in range(4)]).astype(np.uint32)
    graph = Graph(np.full(count, width, np.uint32), links, flat(count), 3)
    lost = int((~reached(graph.counts, graph.links, 3)).sum())
    assert lost >= 300
    assert mend(graph) == lost
    assert mend(graph) == 0


def test_links_to_what_is_left_out_go_to_what_stands_for_it() -> None:
    links = np.asarray([[1, 2], [0, 3], [3, 0], [1, 2]], np.uint32)
    graph = Graph(np.asarray([2, 2, 2, 2], np.uint32), links, flat(4), 1)
    smaller = project(graph, np.asarray([0, 3]), np.asarray([0, 3, 3, 3]))
    assert links_of(smaller) == [[1], []]
    assert smaller.entry_point == 0


def test_a_chain_of_equals_begins_at_the_one_that_stands_for_them() -> None:
    links = np.asarray([[4, 4, 4], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], np.uint32)
    graph = Graph(np.asarray([3, 0, 0, 0, 1], np.uint32), links, flat(5), 0)
    hang_equals(graph, np.asarray([0, 0, 0, 0, 4]))
    assert links_of(graph) == [[1, 4, 4], [2, 0], [3, 1, 0], [0, 2], [0]]


def test_short_vectors_are_of_one_byte_unless_too_much_would_be_lost() -> None:
    assert shorten(vectors_of(8, 50)).scalar == "i8"
    uneven = vectors_of(8, 50) * np.geomspace(0.001, 10, 50, dtype=np.float32)[:, None]
    short = shorten(uneven)
    assert short.scalar == "bf16"
    back = (short.rows.astype(np.uint32) << 16).view(np.float32)
    assert np.allclose(back, uneven, rtol=2**-8)
    assert shorten(np.zeros((3, 8), np.float32)).scalar == "i8"


def flat(count: int) -> UpperLinks:
    """No levels above the lowest one."""
    nothing = np.zeros(0, np.int64)
    return UpperLinks(
        np.zeros(count, np.int32),
        nothing,
        nothing.astype(np.int32),
        nothing.astype(np.uint32),
        np.zeros((0, 1), np.uint32),
    )


def columns(upper: UpperLinks) -> list[np.ndarray]:
    used = np.arange(upper.links.shape[1]) < upper.counts[:, None]
    return [upper.levels, upper.elements, upper.row_levels, upper.counts, upper.links[used]]


def links_of(graph: Graph) -> list[list[int]]:
    return [row[:count].tolist() for row, count in zip(graph.links, graph.counts, strict=True)]


def recall(graph: Graph, vectors: np.ndarray, queries: np.ndarray) -> float:
    """Of the ten nearest, which part a search over level 0 finds, from the entry point, a hundred candidates wide."""
    hits = 0.0
    for query in queries:
        distances = -(vectors @ query)
        found = search(graph, distances, 100)[:10]
        limit = np.partition(distances, 9)[9]
        hits += float((distances[found] <= limit + 1e-6).mean())
    return hits / len(queries)


def search(graph: Graph, distances: np.ndarray, width: int) -> np.ndarray:
    best = np.asarray([graph.entry_point])
    expanded: set[int] = set()
    while True:
        todo = [element for element in best.tolist() if element not in expanded]
        if not todo:
            return best
        expanded.update(todo)
        found = np.concatenate([graph.links[element, : graph.counts[element]] for element in todo])
        best = np.union1d(best, found).astype(np.int64)
        best = best[np.argsort(distances[best], kind="stable")][:width]
