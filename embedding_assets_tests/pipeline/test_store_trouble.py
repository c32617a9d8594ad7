"""Every request to the store is made to fail in turn: trouble is called trouble, never damage, and harms nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from embedding_assets.errors import StoreUnavailableError
from embedding_assets.pipeline.pending import compaction_due
from embedding_assets.pipeline.proofs import prove_deltas
from embedding_assets.pipeline.status import collection_status
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, StoredObject
from embedding_assets_tests.cells import Cell, contents

pytestmark = pytest.mark.service


class FailingStore(ObjectStore):
    """Fails one request: the one with this number, or the first of this kind."""

    def __init__(self, store: ObjectStore, failing: int | str) -> None:
        super().__init__(store._backend, store.url)
        self._failing = failing
        self._lock = threading.Lock()
        self.requests: list[str] = []

    def _count(self, kind: str, key: str) -> None:
        with self._lock:
            fails = self._failing == len(self.requests) or (self._failing == kind and kind not in self.requests)
            self.requests.append(kind)
        if fails:
            raise StoreUnavailableError(key, "the store asks to slow down", "Later.")

    def get(self, key: str) -> bytes:
        self._count("get", key)
        return super().get(key)

    def exists(self, key: str) -> bool:
        self._count("exists", key)
        return super().exists(key)

    def on_disk(self, key: str) -> None:
        """Nothing of it can be had but through the store."""

    def download(self, key: str, path: Path) -> str:
        self._count("download", key)
        return super().download(key, path)

    def sha256(self, key: str) -> tuple[int, str]:
        self._count("sha256", key)
        return super().sha256(key)

    def walk(self, prefix: str, after: str | None = None) -> Iterator[StoredObject]:
        self._count("walk", prefix)
        return super().walk(prefix, after)

    def folders(self, prefix: str) -> list[str]:
        self._count("folders", prefix)
        return super().folders(prefix)

    def upload(self, key: str, path: Path) -> None:
        self._count("upload", key)
        super().upload(key, path)

    def put_new(self, key: str, data: bytes) -> None:
        self._count("put_new", key)
        super().put_new(key, data)


LOOKS: dict[str, Callable[[Cell], object]] = {
    "prove_deltas": lambda cell: prove_deltas(cell.store, cell.spec, cell.day),
    "prove_snapshot": lambda cell: cell.proof(),
    "balance": lambda cell: cell.books(),
    "cells_to_run": lambda cell: cell.to_run(),
    "compaction_due": lambda cell: compaction_due(cell.store, cell.spec),
    "status": lambda cell: collection_status(cell.store, cell.spec),
    "land": lambda cell: cell.land(),
}


@pytest.mark.parametrize("look", LOOKS)
def test_no_look_takes_an_unavailable_store_for_damage(delivered: Cell, look: str) -> None:
    """Whichever request fails, the look fails as a whole; it never answers that something is damaged or missing."""
    before = contents(delivered.store)
    failing = 0
    while True:
        store = FailingStore(delivered.store, failing)
        try:
            LOOKS[look](replace(delivered, store=store))
        except StoreUnavailableError:
            failing += 1
        else:
            break
    # A look may need less than the one before, which it remembers: then each of its requests has failed, too.
    assert 2 <= len(store.requests) <= failing
    print(f"{look}: {failing} requests were made to fail in turn")
    assert contents(delivered.store) == before


@pytest.mark.parametrize("kind", ["walk", "get", "download"])
def test_a_delta_whose_sources_cannot_be_read_just_now_is_built_by_the_next_run(landed: Cell, kind: str) -> None:
    before = contents(landed.store)
    with pytest.raises(StoreUnavailableError):
        landed.build(FailingStore(landed.store, kind))
    assert contents(landed.store) == before
    assert landed.to_run() != []


@pytest.mark.parametrize("kind", ["upload", "sha256", "put_new"])
def test_a_delta_that_cannot_be_written_just_now_is_tried_again_and_stands_there_once(landed: Cell, kind: str) -> None:
    done = landed.build(FailingStore(landed.store, kind))
    assert (done.damaged, done.failed, [manifest.count for manifest in done.built]) == ({}, (), [20])
    proof = prove_deltas(landed.store, landed.spec, landed.day)
    assert (proof.whole, len(proof.deltas), proof.waiting) == (True, 1, ())
    folders = landed.store.folders(layout.deltas(landed.spec.name, landed.day))
    assert folders == [done.built[0].id]
