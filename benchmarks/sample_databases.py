"""Makes ChromaDB databases of many kinds, through the public API alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Setup:
    """How a collection is made: its name and chromadb's settings."""

    name: str = "lines"
    space: str = "cosine"
    dimension: int = 8
    sync_threshold: int = 1000
    max_neighbors: int = 16


class Opened:
    """A collection that is open for writing."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        self._folder = folder
        self._client: Any = chromadb.PersistentClient(
            str(folder), settings=chromadb.Settings(anonymized_telemetry=False)
        )
        hnsw = {
            "space": setup.space,
            "sync_threshold": setup.sync_threshold,
            "batch_size": min(100, setup.sync_threshold),
            "max_neighbors": setup.max_neighbors,
        }
        self.collection: Any = self._client.get_or_create_collection(
            setup.name, configuration={"hnsw": hnsw}, embedding_function=None
        )

    def __enter__(self) -> Any:
        return self.collection

    def __exit__(self, *_: object) -> None:
        """close() returns before the files are closed: wait until they are."""
        self._client.close()
        for _ in range(1000):
            links = [link for link in Path("/proc/self/fd").iterdir() if _leads_below(link, self._folder)]
            if not links:
                return
            time.sleep(0.002)
        raise RuntimeError(f"{self._folder} is still open")


def _leads_below(link: Path, folder: Path) -> bool:
    try:
        return str(link.readlink()).startswith(f"{folder}/")
    except OSError:
        return False


def fill(folder: Path, setup: Setup, *, count: int, seed: int, deleted: int = 0, tail: int = 0) -> None:
    """Records of every kind of metadata, some deleted again, and some written after the index was last persisted."""
    rng = np.random.default_rng(seed)

    def write(collection: Any, method: str, start: int, stop: int) -> None:
        for first in range(start, stop, 2000):
            rows = range(first, min(stop, first + 2000))
            getattr(collection, method)(
                ids=[f"{seed}-{i}" for i in rows],
                embeddings=rng.normal(size=(len(rows), setup.dimension)).astype(np.float32),
                documents=[f"document {i} of {seed}, {rng.integers(10**9)}" for i in rows],
                metadatas=[{"n": i, "x": i / 8, "t": f"tag {i}", "b": i % 2 == 0} for i in rows],
            )

    with Opened(folder, setup) as collection:
        write(collection, "add", 0, count)
        if deleted:
            collection.delete(ids=[f"{seed}-{i}" for i in range(deleted)])
        if tail:
            write(collection, "upsert", count - tail // 2, count - tail // 2 + tail)


def fill_at_random(folder: Path, seed: int) -> Setup:
    """A database that is whole and as odd as chromadb makes them: any size, distance, threshold and history."""
    rng = np.random.default_rng(seed)
    setup = Setup(
        name=str(rng.choice(["lines", "legacy-name", "words_2024"])),
        space=str(rng.choice(["cosine", "l2", "ip"])),
        dimension=int(rng.choice([1, 2, 3, 8, 32, 64])),
        sync_threshold=int(rng.choice([2, 5, 50, 200, 1000, 100_000])),
        max_neighbors=int(rng.choice([2, 4, 8, 16, 32])),
    )
    ids = int(rng.choice([1, 2, 5, 30, 150, 600]))
    distinct = int(rng.choice([1, 3, 20, 10_000]))
    pool = (rng.normal(size=(min(ids, distinct), setup.dimension)) * 10.0 ** rng.integers(-3, 3)).astype(np.float32)
    for _ in range(int(rng.integers(1, 4))):  # opened so many times
        with Opened(folder, setup) as collection:
            for _ in range(int(rng.integers(0, 5))):
                _write_at_random(collection, rng, pool, ids)
    return setup


def _write_at_random(collection: Any, rng: np.random.Generator, pool: Vectors, ids: int) -> None:
    chosen = [f"id-{i} \u00e4" for i in rng.permutation(ids)[: int(rng.integers(1, ids + 1))]]
    vectors = pool[rng.integers(0, len(pool), len(chosen))]
    texts = [f"text {rng.integers(0, 1000)} of {i} \U0001f600" for i in chosen]
    metadatas = [{f"k{rng.integers(0, 3)}": [1, 0.5, True, "v"][int(rng.integers(0, 4))]} for _ in chosen]
    method = str(rng.choice(["add", "upsert", "update", "delete", "bare", "add"]))
    if method == "delete":
        collection.delete(ids=chosen)
    elif method == "bare":
        collection.upsert(ids=chosen, embeddings=vectors)
    else:
        getattr(collection, method)(ids=chosen, embeddings=vectors, documents=texts, metadatas=metadatas)
