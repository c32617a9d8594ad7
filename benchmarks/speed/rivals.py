"""The ways to beat: chromadb's public API as its documentation shows it, raw hnswlib, json.loads per line."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.speed.isolated import Figures, begin
from embedding_assets.records import RecordBatch

_PAGE = 5000


def api_delta(source: Path, folder: Path, distance: str = "cosine") -> Figures:
    """A database of a Parquet file's records: create, upsert, close. Reading the file is not counted."""
    batches = [RecordBatch.from_arrow(rows) for rows in pq.ParquetFile(source).iter_batches(batch_size=_PAGE)]
    import chromadb  # noqa: F401  (its import is not counted either)

    began = begin()
    _write(folder, batches, distance)
    return {"seconds": time.perf_counter() - began}


def api_many(sources: list[Path], folder: Path) -> Figures:
    """A database per batch, then all of them got and upserted into one."""
    batches = [RecordBatch.from_arrow(pq.read_table(path)) for path in sources]
    import chromadb  # noqa: F401

    folder.mkdir()
    began = begin()
    for number, batch in enumerate(batches):
        _write(folder / f"{number}", [batch])
    built = time.perf_counter() - began
    for number in range(len(batches)):
        _upsert_all(folder / f"{number}", folder / "all")
    return {"seconds": time.perf_counter() - began, "deltas": built, "count": _count(folder / "all")}


def api_merge(base: Path, delta: Path, folder: Path) -> Figures:
    """Everything of `delta` got and upserted into a copy of `base`; the copying is not counted."""
    shutil.copytree(base, folder)
    import chromadb  # noqa: F401

    began = begin()
    _upsert_all(delta, folder)
    return {"seconds": time.perf_counter() - began, "count": _count(folder)}


def raw_insertion(base: Path, added: Path, dimension: int) -> Figures:
    """hnswlib alone: the vectors of `added` put into an index that holds those of `base`, on all cores."""
    import hnswlib

    old, new = _vectors(base), _vectors(added)
    index = hnswlib.Index("cosine", dimension)
    index.init_index(len(old) + len(new), M=16, ef_construction=100)
    index.add_items(old)
    began = begin()
    index.add_items(new)
    return {"seconds": time.perf_counter() - began}


def api_read(folder: Path) -> Figures:
    """Every record by `collection.get`, in pages."""
    import chromadb

    client = chromadb.PersistentClient(str(folder))
    handle = client.get_collection("lines", embedding_function=None)
    handle.get(limit=1)  # what the first access loads is not counted
    began = begin()
    count = sum(len(page["ids"]) for page in _pages(handle))
    seconds = time.perf_counter() - began
    client.close()
    return {"seconds": seconds, "count": count}


def json_lines(path: Path) -> Figures:
    """json.loads per line; vectors as lists, base64 decoded into them."""
    began = begin()
    count = 0
    with path.open("rb") as file:
        for line in file:
            vector = json.loads(line)["response"]["body"]["data"][0]["embedding"]
            if isinstance(vector, str):
                vector = np.frombuffer(base64.b64decode(vector), np.float32).tolist()
            count += len(vector) > 0
    return {"seconds": time.perf_counter() - began, "count": count}


def recall(folder: Path, queries: np.ndarray[Any, Any], nearest: list[set[str]]) -> Figures:
    """Recall at ten of chromadb's own search in a database, with its default settings."""
    import chromadb

    client = chromadb.PersistentClient(str(folder))
    handle = client.get_collection("lines", embedding_function=None)
    found = [handle.query(query_embeddings=query[None], n_results=10, include=[])["ids"][0] for query in queries]
    client.close()
    shares = [len(set(ids) & right) / len(right) for ids, right in zip(found, nearest, strict=True)]
    return {"recall": float(np.mean(shares))}


def _write(folder: Path, batches: list[RecordBatch], distance: str = "cosine") -> None:
    import chromadb

    client = chromadb.PersistentClient(str(folder))
    handle = client.create_collection("lines", embedding_function=None, configuration={"hnsw": {"space": distance}})
    for batch in batches:
        handle.upsert(ids=batch.ids, embeddings=batch.embeddings, documents=batch.documents, metadatas=batch.metadatas)
    client.close()


def _upsert_all(source: Path, target: Path) -> None:
    import chromadb

    reader, writer = chromadb.PersistentClient(str(source)), chromadb.PersistentClient(str(target))
    handle = writer.get_or_create_collection(
        "lines", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )
    for page in _pages(reader.get_collection("lines", embedding_function=None)):
        handle.upsert(
            ids=page["ids"], embeddings=page["embeddings"], documents=page["documents"], metadatas=page["metadatas"]
        )
    reader.close()
    writer.close()


def _pages(handle: Any) -> Iterator[Any]:
    offset = 0
    while (page := handle.get(limit=_PAGE, offset=offset, include=["embeddings", "documents", "metadatas"]))["ids"]:
        yield page
        offset += len(page["ids"])


def _count(folder: Path) -> int:
    import chromadb

    client = chromadb.PersistentClient(str(folder))
    count = client.get_collection("lines", embedding_function=None).count()
    client.close()
    return int(count)


def _vectors(path: Path) -> Any:
    column = pq.read_table(path, columns=["embedding"]).column("embedding").combine_chunks()
    return column.flatten().to_numpy().reshape(-1, column.type.list_size)
