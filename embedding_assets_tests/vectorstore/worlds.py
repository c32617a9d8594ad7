"""Deltas, snapshots and legacy folders for tests, ways to damage them, and a store that dies."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest

from embedding_assets.chroma.child import MergeFailedError
from embedding_assets.chroma.read import read_origins
from embedding_assets.chroma.reports import MergeReport
from embedding_assets.reading import Collection
from embedding_assets.settings import Settings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, StoredObject
from embedding_assets.vectorstore import shard, unmergeable
from embedding_assets.vectorstore.cache import fetch_current
from embedding_assets.vectorstore.commit import head, load_snapshot
from embedding_assets.vectorstore.compact import Compaction, compact
from embedding_assets.vectorstore.delta import build_delta, list_deltas
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.transfer import verify_files
from embedding_assets_tests.making import SPEC, landed, make_records

DAY = "2026-03-04"
LEGACY = "lines/delta/lines/receipt_lines/3f2b8a52-9a0c-4ad5-8c57-6a7d8a1c9d10"
LATEST = "lines/snapshot/latest"
_numbers = itertools.count()


def deliver(store: ObjectStore, folder: Path, batch_id: str, ids: list[str], **how: Any) -> Manifest:
    """Build one delta of one batch."""
    batch = landed(folder, batch_id, ids, **how)
    return build_delta(store, SPEC, DAY, [batch], run_id="test", scratch=folder)


def heal(store: ObjectStore, folder: Path, **how: Any) -> Compaction:
    """Compact; there must be something."""
    done = compact(store, SPEC, run_id="healer", scratch=folder, **how)
    assert done is not None
    return done


def bring_up_to_date(store: ObjectStore, folder: Path) -> Manifest:
    """Compact; the snapshot that is current then."""
    manifest = heal(store, folder).manifest
    assert manifest is not None
    return manifest


def failing(refused: bool) -> Callable[..., Any]:
    """What fails as a task of chromadb does, whatever it is given; `refused`: because of what it was given."""

    def fails(*args: Any, **how: Any) -> Any:
        failed = MergeFailedError("the database", "it does not work here", "Later.")
        failed.refused = refused
        raise failed

    return fails


def read(store: ObjectStore, folder: Path) -> Collection:
    """Open the current snapshot as a program would."""
    return Collection(store, SPEC, Settings("test", store.url, Path("unused"), folder / "cache"))


def held(store: ObjectStore, folder: Path) -> dict[str, str]:
    """Id -> batch of all records that a reader with an empty cache gets; read directly, which is faster."""
    cache = folder / f"reader-{next(_numbers)}"
    fetched = fetch_current(store, "lines", cache)
    assert fetched is not None
    manifest = fetched.manifest
    pairs = [
        pair
        for part in manifest.databases
        for ids, origins in read_origins(fetched.folder / part.shard, "lines")
        for pair in zip(ids, origins, strict=True)
    ]
    fetched.close()
    assert len(pairs) == manifest.count
    return {record_id: origin.batch_id for record_id, origin in pairs}


def assert_whole(store: ObjectStore) -> Manifest:
    """The current snapshot is what its manifest says, and the pointer names it."""
    commit = head(store, "lines")
    assert commit is not None
    manifest = load_snapshot(store, "lines", commit)
    verify_files(store, manifest)
    assert store.get(layout.pointer("lines")).decode() == manifest.id
    return manifest


def keys(store: ObjectStore, prefix: str = "lines") -> list[str]:
    """All keys below a folder."""
    return [item.key for item in store.walk(prefix)]


def delta_ids(store: ObjectStore) -> set[str]:
    """The committed deltas."""
    return {ref.id for ref in list_deltas(store, "lines")}


def legacy(
    store: ObjectStore,
    folder: Path,
    prefix: str,
    ids: Sequence[str],
    *,
    name: str = "lines",
    how: str = "whole",
    metadata: dict[str, Any] | None = None,
) -> None:
    """A plain ChromaDB folder as older systems uploaded it, without manifest; or uploaded while it was written."""
    made = folder / f"legacy-{next(_numbers)}"
    records = make_records(ids, seed=77, text="legacy")
    client = chromadb.PersistentClient(str(made), settings=chromadb.config.Settings(anonymized_telemetry=False))
    collection = client.create_collection(name, embedding_function=None, configuration={"hnsw": {"space": "cosine"}})
    metadatas: Any = [metadata for _ in records.ids] if metadata else None
    collection.add(
        ids=records.ids, embeddings=np.asarray(records.embeddings), documents=records.documents, metadatas=metadatas
    )
    client.close()
    for path in sorted(made.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if how == "torn" and path.name == "chroma.sqlite3":
                data = data[: len(data) // 2]
            store.replace(f"{prefix}/{path.relative_to(made).as_posix()}", data)


def spoil_merges(monkeypatch: pytest.MonkeyPatch, bad: set[str], *, api: bool = False) -> None:
    """From now on these records come out of every merge with other metadata than they went in with.

    Args:
        monkeypatch: ends it.
        bad: ids of the records.
        api: whether all merges are made through chromadb.
    """
    real = shard.merge_in_child

    def merge(folder: Path, *arguments: Any, hindrance: str = "", **options: Any) -> MergeReport:
        merged = real(folder, *arguments, hindrance=hindrance or ("it is told to" if api else ""), **options)
        connection = sqlite3.connect(folder / "chroma.sqlite3")
        with connection:
            for record_id in bad:
                connection.execute(
                    "UPDATE embedding_metadata SET int_value = int_value + 1 WHERE key = 'ea:submitted' AND id = "
                    "(SELECT id FROM embeddings WHERE embedding_id = ?)",
                    (record_id,),
                )
        connection.close()
        return merged

    for module in (shard, unmergeable):
        monkeypatch.setattr(module, "merge_in_child", merge)


def file_of(manifest: Manifest, name: str) -> str:
    """The key of a database's file."""
    return next(f"{manifest.folder}/{e.path}" for e in manifest.files if e.path.endswith(name))


def flip(store: ObjectStore, key: str) -> None:
    """Change one byte of an object."""
    content = bytearray(store.get(key))
    content[len(content) // 2] ^= 1
    store.replace(key, bytes(content))


Damage = Callable[[ObjectStore, Manifest], None]
DAMAGES: dict[str, Damage] = {
    "sqlite flipped": lambda store, m: flip(store, file_of(m, "chroma.sqlite3")),
    "sqlite cut": lambda store, m: store.replace(
        file_of(m, "chroma.sqlite3"), store.get(file_of(m, "chroma.sqlite3"))[:5000]
    ),
    "file missing": lambda store, m: store.delete([file_of(m, "chroma.sqlite3")]),
    "manifest garbage": lambda store, m: store.replace(m.key, b"\xff{garbage"),
    "manifest empty": lambda store, m: store.replace(m.key, b""),
    "manifest of another": lambda store, m: store.replace(m.key, m.to_bytes().replace(m.id.encode(), b"another")),
    "manifest outside": lambda store, m: store.replace(m.key, m.to_bytes().replace(b"chroma.sqlite3", b"../escape")),
    "manifest changed": lambda store, m: flip(store, m.key),
}


class Killed(BaseException):
    """The process is gone: no handler for exceptions runs on its account, and nothing reaches the store any more."""


class DyingStore(ObjectStore):
    """Dies before its n-th operation, and stays dead; deleting many objects is many operations."""

    def __init__(self, store: ObjectStore, dies_at: int | None = None) -> None:
        super().__init__(store._backend, store.url)
        self.done = 0
        self.dies_at = dies_at
        self.names: list[str] = []
        self._lock = threading.Lock()

    def _count(self, name: str) -> None:
        with self._lock:
            if self.dies_at is not None and self.done >= self.dies_at:
                raise Killed(name)
            self.done += 1
            self.names.append(name)

    def put_new(self, key: str, data: bytes) -> None:
        self._count(f"put {key}")
        super().put_new(key, data)

    def replace(self, key: str, data: bytes) -> None:
        self._count(f"replace {key}")
        super().replace(key, data)

    def upload(self, key: str, path: Path) -> None:
        self._count(f"upload {key}")
        super().upload(key, path)

    def copy(self, source: str, target: str) -> None:
        self._count(f"copy {source}")
        super().copy(source, target)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._count(f"delete {key}")
            super().delete([key])


class DyingReader(DyingStore):
    """Dies at reading operations as well."""

    def get(self, key: str) -> bytes:
        self._count(f"get {key}")
        return super().get(key)

    def exists(self, key: str) -> bool:
        self._count(f"head {key}")
        return super().exists(key)

    def on_disk(self, key: str) -> None:
        """Nothing of it can be had but through the store."""

    def _stream(self, key: str) -> Iterator[bytes]:
        self._count(f"read {key}")
        return super()._stream(key)

    def walk(self, prefix: str, after: str | None = None) -> Iterator[StoredObject]:
        self._count(f"list {prefix}")
        return super().walk(prefix, after)

    def folders(self, prefix: str) -> list[str]:
        self._count(f"list {prefix}")
        return super().folders(prefix)


def copied(store: ObjectStore, target: ObjectStore) -> ObjectStore:
    """Put a copy of everything into another store."""
    for item in store.walk(""):
        target.replace(item.key, store.get(item.key))
    return target
