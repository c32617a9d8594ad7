"""An index whose links lead nowhere is damaged, one that HNSW left as it is is not: a table of both."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedding_assets.chroma.graph import Graph, descended, mend, reached
from embedding_assets.chroma.hnsw_files import HEADER_FILE, LEVEL0_FILE, open_hnsw, pack_header, parse_header
from embedding_assets.chroma.structure import check_structure
from embedding_assets_tests.chroma.databases import NAME, Setup, client, create
from embedding_assets_tests.chroma.test_graph import flat

COUNT, DIMENSION = 460, 12
Links = np.ndarray
Damage = Callable[[np.ndarray, Links, np.ndarray, np.ndarray], None]


def fill(folder: Path, vectors: np.ndarray, space: str = "cosine", m: int = 16, gone: int = 0) -> None:
    create(folder, Setup(space, DIMENSION, 50, m))
    with client(folder) as opened:
        collection = opened.get_collection(NAME, embedding_function=None)
        ids = [f"r{i}" for i in range(len(vectors))]
        collection.add(ids=ids, embeddings=vectors.astype(np.float32))
        if gone:
            collection.delete(ids=ids[:gone])


def segment(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reach") / "db"
    fill(folder, np.random.default_rng(3).normal(size=(COUNT, DIMENSION)))
    assert check_structure(folder).problems == ()
    return folder


def some(share: float) -> np.ndarray:
    """A share of all elements; at least one."""
    return np.random.default_rng(5).permutation(COUNT)[: max(1, round(share * COUNT))]


def keep_links(counts: np.ndarray, links: Links, wanted: Callable[[int, int], bool]) -> None:
    for element in range(len(counts)):
        kept = [target for target in links[element, : counts[element]] if wanted(element, int(target))]
        links[element, : len(kept)] = kept
        counts[element] = len(kept)


def lead_nowhere(share: float) -> Damage:
    def damage(counts: np.ndarray, links: Links, levels: np.ndarray, vectors: np.ndarray) -> None:
        counts[some(share)] = 0

    return damage


def unlink(share: float) -> Damage:
    def damage(counts: np.ndarray, links: Links, levels: np.ndarray, vectors: np.ndarray) -> None:
        gone = set(some(share).tolist())
        keep_links(counts, links, lambda element, target: element not in gone and target not in gone)

    return damage


def nobody_leads_to(share: float) -> Damage:
    def damage(counts: np.ndarray, links: Links, levels: np.ndarray, vectors: np.ndarray) -> None:
        gone = set(some(share).tolist())
        keep_links(counts, links, lambda element, target: target not in gone)

    return damage


def all_lead_to_one(counts: np.ndarray, links: Links, levels: np.ndarray, vectors: np.ndarray) -> None:
    counts[:] = 1
    links[:, 0] = np.where(np.arange(COUNT) == 7, 8, 7)


def cut_off(counts: np.ndarray, links: Links, levels: np.ndarray, vectors: np.ndarray) -> None:
    far = (vectors[:, 0] > 0.2) & (levels == 0)
    keep_links(counts, links, lambda element, target: bool(far[element]) or not far[target])


DAMAGES: dict[str, Damage] = {
    "1 % lead nowhere": lead_nowhere(0.01),
    "10 % lead nowhere": lead_nowhere(0.1),
    "1 % unlinked": unlink(0.01),
    "10 % unlinked": unlink(0.1),
    "nobody leads to 10 %": nobody_leads_to(0.1),
    "all lead to one": all_lead_to_one,
    "a part is cut off": cut_off,
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_links_that_lead_nowhere_are_damage(sound: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "db"
    shutil.copytree(sound, folder)
    files = open_hnsw(segment(folder), DIMENSION)
    data = bytearray((segment(folder) / LEVEL0_FILE).read_bytes())
    rows = np.frombuffer(data, np.uint8)[: COUNT * files.header.element_size].reshape(COUNT, -1)
    counts, links = rows[:, :2].view("<u2")[:, 0], rows[:, 4 : 4 + 8 * files.header.m].view("<u4")
    DAMAGES[kind](counts, links, files.upper_links().levels, np.array(files.vectors))
    (segment(folder) / LEVEL0_FILE).write_bytes(data)
    problems = check_structure(folder).problems
    assert any("searches end there" in problem or "no search can come to" in problem for problem in problems)


def test_another_entry_point_is_found_or_does_no_harm(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "db"
    shutil.copytree(sound, folder)
    path = segment(folder) / HEADER_FILE
    whole = path.read_bytes()
    header = parse_header(whole)
    for other in range(0, COUNT, 23):
        path.write_bytes(pack_header(replace(header, entry_point=other)))
        found = check_structure(folder)
        assert found.problems or found.unreachable[NAME] == 0


def copies(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Two thirds are one of ten vectors, or lie close to one of them."""
    vectors = rng.normal(size=(1500, DIMENSION))
    vectors[:1000] = vectors[1000:1010][rng.integers(10, size=1000)] + spread * rng.normal(size=(1000, DIMENSION))
    return vectors


@pytest.mark.parametrize(
    ("vectors", "space", "m", "gone"),
    [
        (lambda rng: copies(rng, 0), "cosine", 16, 0),
        (lambda rng: copies(rng, 1e-3), "l2", 8, 0),
        (lambda rng: np.repeat(rng.normal(size=(5, DIMENSION)), 100, axis=0), "ip", 16, 0),
        (lambda rng: 5 + 0.05 * rng.normal(size=(600, DIMENSION)), "ip", 5, 0),
        (lambda rng: rng.normal(size=(600, DIMENSION)), "l2", 2, 0),
        (lambda rng: rng.normal(size=(400, DIMENSION)), "l2", 8, 390),
        (lambda rng: np.outer(1 + rng.random(300), rng.normal(size=DIMENSION)), "cosine", 8, 0),
        (lambda rng: rng.normal(size=(1, DIMENSION)), "cosine", 16, 0),
        (lambda rng: rng.normal(size=(2, DIMENSION)), "cosine", 16, 1),
    ],
    ids=[
        "copies",
        "almost copies",
        "five texts",
        "inner products",
        "two links",
        "deleted",
        "one direction",
        "one",
        "one of two",
    ],
)
def test_what_chromadb_leaves_is_no_damage(
    tmp_path: Path, vectors: Callable[[np.random.Generator], np.ndarray], space: str, m: int, gone: int
) -> None:
    fill(tmp_path / "db", vectors(np.random.default_rng(1)), space, m, gone)
    assert check_structure(tmp_path / "db").problems == ()


def test_a_search_comes_down_to_whatever_the_upper_levels_lead_to(sound: Path) -> None:
    files = open_hnsw(segment(sound), DIMENSION)
    upper = files.upper_links()
    ends = descended(upper, files.header.entry_point)
    above = np.flatnonzero(upper.levels > 0)
    assert set(ends) <= {*above.tolist(), files.header.entry_point}
    assert len(ends) > len(above) // 2


def test_a_mended_graph_has_no_element_without_links() -> None:
    links = np.asarray([[1, 2], [0, 0], [0, 0]], np.uint32)
    graph = Graph(np.asarray([2, 1, 0], np.uint32), links, flat(3), 0)
    assert mend(graph) == 0
    assert graph.counts.tolist() == [2, 1, 1]
    assert reached(graph.counts, graph.links, 2).all()
