"""Small ChromaDB databases of every kind, built through the public API, and what the API reads from them."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chromadb
import numpy as np

from embedding_assets.records import Metadata, RecordBatch

NAME = "records"


@dataclass(frozen=True)
class Setup:
    """How a collection is made."""

    space: str = "cosine"
    dimension: int = 8
    sync_threshold: int = 1000
    max_neighbors: int = 16


@contextmanager
def client(folder: Path) -> Iterator[Any]:
    """A client that is really closed afterwards: close() returns before its descriptors are gone."""
    opened = chromadb.PersistentClient(str(folder), settings=chromadb.Settings(anonymized_telemetry=False))
    try:
        yield opened
    finally:
        opened.close()
        wait_until_closed(folder)


def wait_until_closed(folder: Path) -> None:
    """Wait until this process has no file of the folder open."""
    for _ in range(400):
        held = False
        for link in Path("/proc/self/fd").iterdir():
            try:
                held = held or str(link.readlink()).startswith(str(folder) + "/")
            except OSError:
                continue
        if not held:
            return
        time.sleep(0.002)
    raise AssertionError(f"{folder} is still open")


def create(folder: Path, setup: Setup, name: str = NAME) -> None:
    """An empty database with one collection."""
    with client(folder) as opened:
        new_collection(opened, setup, name)


def new_collection(opened: Any, setup: Setup, name: str = NAME) -> Any:
    """A collection in an open database."""
    hnsw = {
        "space": setup.space,
        "sync_threshold": setup.sync_threshold,
        "batch_size": min(100, setup.sync_threshold),
        "max_neighbors": setup.max_neighbors,
    }
    return opened.create_collection(name, configuration={"hnsw": hnsw}, embedding_function=None)


def apply(collection: Any, operations: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Run operations: the method's name and its arguments."""
    for method, arguments in operations:
        getattr(collection, method)(**arguments)


def api_records(folder: Path, scratch: Path, name: str = NAME) -> RecordBatch:
    """What `collection.get` gives for a copy of the folder (for opening may write to it)."""
    copy = scratch / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    with client(copy) as opened:
        got = opened.get_collection(name, embedding_function=None).get(include=["embeddings", "documents", "metadatas"])
    shutil.rmtree(copy)
    vectors = np.asarray(got["embeddings"])
    return RecordBatch(
        got["ids"],
        vectors.astype(np.float32).reshape(len(got["ids"]), -1) if len(got["ids"]) else np.empty((0, 0), np.float32),
        [document or "" for document in got["documents"]],
        [metadata or {} for metadata in got["metadatas"]],
    )


def joined(batches: Iterable[RecordBatch]) -> RecordBatch:
    """All batches as one."""
    parts = list(batches)
    return RecordBatch(
        [i for p in parts for i in p.ids],
        np.concatenate([p.embeddings for p in parts]) if parts else np.empty((0, 0), np.float32),
        [d for p in parts for d in p.documents],
        [m for p in parts for m in p.metadatas],
    )


def typed(metadatas: list[Metadata]) -> list[dict[str, tuple[type, Any]]]:
    """Metadata with the types of the values, for 1 == True == 1.0."""
    return [{key: (type(value), value) for key, value in metadata.items()} for metadata in metadatas]


def assert_equal(read: RecordBatch, wanted: RecordBatch) -> None:
    """Every id, document, metadata value with its type, and every bit of every vector."""
    assert read.ids == wanted.ids
    assert read.documents == wanted.documents
    assert typed(read.metadatas) == typed(wanted.metadatas)
    assert read.embeddings.dtype == np.float32
    assert read.embeddings.tobytes() == wanted.embeddings.tobytes()


def edit(folder: Path, *statements: str) -> None:
    """Change the SQLite file behind ChromaDB's back."""
    connection = sqlite3.connect(folder / "chroma.sqlite3")
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def forget_metadata(folder: Path) -> None:
    """As if a writer had written the log and nothing else: the METADATA segment has seen none of it."""
    edit(
        folder,
        "DELETE FROM max_seq_id WHERE segment_id IN (SELECT id FROM segments WHERE scope = 'METADATA')",
        "DELETE FROM embeddings",
        "DELETE FROM embedding_metadata",
        "DELETE FROM embedding_fulltext_search",
    )


def random_operations(rng: np.random.Generator, dimension: int, count: int, size: int, ids: int) -> Any:
    """A random mix of operations on at most `ids` ids, `count` calls of at most `size` records."""
    operations = []
    for _ in range(count):
        method = str(rng.choice(["add", "upsert", "update", "delete", "upsert_vectors", "update_metadata"]))
        chosen = [f"id-{i}" for i in rng.permutation(ids)[: int(rng.integers(1, size + 1))]]
        vectors = (rng.normal(size=(len(chosen), dimension)) * 10.0 ** rng.integers(-3, 3)).astype(np.float32)
        texts = [f"text {rng.integers(0, 1000)} of {i} \u00e4\U0001f600" for i in chosen]
        metadatas = [random_metadata(rng) for _ in chosen]
        arguments: dict[str, Any] = {"ids": chosen}
        if method in ("add", "upsert", "update"):
            arguments |= {"embeddings": vectors, "documents": texts, "metadatas": metadatas}
        elif method == "upsert_vectors":
            arguments |= {"embeddings": vectors}
        elif method == "update_metadata":
            arguments |= {"metadatas": metadatas}
        operations.append((method.split("_", maxsplit=1)[0], arguments))
    return operations


def random_metadata(rng: np.random.Generator) -> dict[str, Any]:
    """One to three keys whose types change from call to call."""
    choices = [
        lambda: int(rng.integers(-(2**62), 2**62)),
        lambda: float(rng.normal() * 10.0 ** int(rng.integers(-20, 20))),
        lambda: float(rng.integers(-5, 5)),
        lambda: bool(rng.integers(0, 2)),
        lambda: f"value {rng.integers(0, 9)}",
    ]
    return {f"k{rng.integers(0, 4)}": choices[int(rng.integers(0, len(choices)))]() for _ in range(3)}
