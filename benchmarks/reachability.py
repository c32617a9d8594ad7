"""How much of an index no search can come to, in databases that chromadb itself built.

    python -m benchmarks.reachability [--records 500 2000 20000] [--seeds 3]

One line for each kind of database: records, live elements that cannot be reached (the largest and the mean share over
the seeds), by the descent through all levels and from the entry point alone, elements with no link of their own, and
the time that the computation takes. The limit in `embedding_assets/chroma/index_checks.py` is chosen from these lines.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedding_assets.chroma.graph import descended, reached
from embedding_assets.chroma.hnsw_files import open_hnsw
from embedding_assets_tests.chroma.databases import NAME, Setup, client, create

Vectors = npt.NDArray[np.float32]


def kinds(count: int, dimension: int, seed: int) -> Iterator[tuple[str, Vectors, bool]]:
    """Name, vectors, and whether a tenth of the records is updated and another deleted afterwards."""
    rng = np.random.default_rng(seed)
    random = rng.normal(size=(count, dimension)).astype(np.float32)
    centres = rng.normal(size=(max(2, count // 100), dimension))
    tight = centres[rng.integers(len(centres), size=count)] + 0.01 * rng.normal(size=(count, dimension))
    equal = random.copy()
    equal[rng.permutation(count)[: count // 2]] = random[:10][rng.integers(10, size=count // 2)]
    lengths = np.exp(rng.normal(size=(count, 1)))
    yield "random", random, False
    yield "clustered", tight.astype(np.float32), False
    yield "half of them ten texts", equal, False
    yield "updated and deleted", random, True
    yield "lengths vary", (random * lengths).astype(np.float32), False


def build(folder: Path, setup: Setup, vectors: Vectors, changed: bool, seed: int) -> None:
    """A database by the API alone, in batches of 500."""
    rng = np.random.default_rng(seed)
    create(folder, setup)
    with client(folder) as opened:
        collection = opened.get_collection(NAME, embedding_function=None)
        ids = [f"r{i}" for i in range(len(vectors))]
        for at in range(0, len(ids), 500):
            collection.add(ids=ids[at : at + 500], embeddings=vectors[at : at + 500])
        if changed:
            tenth = len(ids) // 10
            fresh = rng.normal(size=(tenth, vectors.shape[1])).astype(np.float32)
            for at in range(0, tenth, 500):
                collection.update(ids=ids[at : min(at + 500, tenth)], embeddings=fresh[at : at + 500])
                collection.delete(ids=ids[tenth + at : min(tenth + at + 500, 2 * tenth)])
            more = rng.normal(size=(tenth, vectors.shape[1])).astype(np.float32)
            for at in range(0, tenth, 500):
                collection.add(ids=[f"n{i}" for i in range(at, min(at + 500, tenth))], embeddings=more[at : at + 500])


def measure(folder: Path, dimension: int) -> tuple[float, float, float, float]:
    """Shares of live elements: not reached, not reached from the entry point alone, without links; and seconds."""
    segment = next(path for path in folder.iterdir() if path.is_dir())
    files = open_hnsw(segment, dimension)
    began = time.perf_counter()
    links = np.ascontiguousarray(files.links)
    by_all = reached(files.link_counts, links, descended(files.upper_links(), files.header.entry_point))
    seconds = time.perf_counter() - began
    alone = reached(files.link_counts, links, files.header.entry_point)
    live = files.deleted == 0
    return (
        float((~by_all & live).sum() / live.sum()),
        float((~alone & live).sum() / live.sum()),
        float(((files.link_counts == 0) & live).sum() / live.sum()),
        seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[500, 2000, 20000])
    parser.add_argument("--neighbors", type=int, nargs="+", default=[16, 8, 5, 4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dimension", type=int, default=32)
    chosen = parser.parse_args()
    print("records  M  space   kind                     worst    mean     entry point alone  no links  ms")
    for count in chosen.records:
        for neighbors in chosen.neighbors:
            for space in ("cosine", "l2", "ip"):
                rows: dict[str, list[tuple[float, float, float, float]]] = {}
                for seed in range(chosen.seeds):
                    for kind, vectors, changed in kinds(count, chosen.dimension, seed):
                        with tempfile.TemporaryDirectory() as scratch:
                            folder = Path(scratch) / "db"
                            setup = Setup(space, chosen.dimension, 500, neighbors)
                            build(folder, setup, vectors, changed, seed)
                            rows.setdefault(kind, []).append(measure(folder, chosen.dimension))
                for kind, found in rows.items():
                    by_all, alone, ends, seconds = np.asarray(found).T
                    print(
                        f"{count:7} {neighbors:2}  {space:6}  {kind:23}  {by_all.max():7.3%}  {by_all.mean():7.3%}  "
                        f"{alone.max():17.3%}  {ends.max():8.3%}  {1000 * seconds.mean():.1f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
