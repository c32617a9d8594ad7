"""Pruning without grace beside living writers: they fail loudly or start again; nothing counts that has no files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from embedding_assets.errors import CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore import compact as compaction
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import list_deltas
from embedding_assets.vectorstore.draft import commit_version
from embedding_assets.vectorstore.inventory import take_inventory
from embedding_assets.vectorstore.manifest import Manifest, load_manifest
from embedding_assets.vectorstore.prune import execute_prune, plan_prune
from embedding_assets.vectorstore.transfer import verify_files
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import assert_whole, deliver, held


def prune(store: ObjectStore) -> None:
    """What `prune --grace-hours 0 --keep 1` does."""
    execute_prune(store, plan_prune(store, "lines", keep=1, grace=timedelta(0)))


class Interrupted(ObjectStore):
    """Somebody else acts right before or after a write that is chosen by its number, once."""

    def __init__(self, store: ObjectStore, at: int, after: bool, act: Callable[[], None]) -> None:
        super().__init__(store._backend, store.url)
        self.at, self.after, self.act = at, after, act
        self.writes = 0

    def put_new(self, key: str, data: bytes) -> None:
        number, self.writes = self.writes, self.writes + 1
        if number == self.at and not self.after:
            self.act()
        super().put_new(key, data)
        if number == self.at and self.after:
            self.act()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("shards", [1, 2])
def test_no_version_is_committed_whose_files_were_pruned(
    folder_store: ObjectStore, tmp_path: Path, shards: int, after: bool
) -> None:
    spec = SPEC.model_copy(update={"shards": shards})
    deliver(folder_store, tmp_path, "batch-0", numbered(0, 3))
    compact(folder_store, spec, run_id="test", scratch=tmp_path)
    at, writes = 0, 1
    while at < writes:
        deliver(folder_store, tmp_path, f"batch-{at + 1}", numbered(10 * at + 10, 10 * at + 20), submitted=2000 + at)
        store = Interrupted(folder_store, at, after, lambda: prune(folder_store))
        with suppress(CorruptedError):  # "was not committed"
            compact(store, spec, run_id="test", scratch=tmp_path)
        at, writes = at + 1, max(writes, store.writes)
        assert_whole(folder_store)
        for part in assert_whole(folder_store).databases:
            assert load_manifest(folder_store, part.key).digest == part.digest
    compact(folder_store, spec, run_id="test", scratch=tmp_path)
    wanted = set(numbered(0, 3)).union(*(numbered(10 * n + 10, 10 * n + 20) for n in range(at)))
    assert set(held(folder_store, tmp_path)) == wanted


@pytest.mark.parametrize("first", [True, False], ids=["first version", "later version"])
@pytest.mark.parametrize("shards", [1, 2])
def test_what_prune_is_about_to_delete_cannot_be_committed_any_more(
    folder_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int, first: bool
) -> None:
    spec = SPEC.model_copy(update={"shards": shards})
    if not first:
        deliver(folder_store, tmp_path, "batch-0", numbered(0, 3))
        compact(folder_store, spec, run_id="test", scratch=tmp_path)
    before = head(folder_store, "lines")
    deliver(folder_store, tmp_path, "batch-1", numbered(3, 9), submitted=2000)
    made = compaction.begin(folder_store, spec, run_id="slow", scratch=tmp_path).draft
    assert made is not None
    done = compaction._all_shards(folder_store, spec, made, tmp_path, None, lambda message: None)
    committed: list[Manifest | None] = []
    delete = ObjectStore.delete

    def commit_meanwhile(store: ObjectStore, keys: Iterable[str]) -> None:
        if not committed:
            committed.append(None)
            committed[0] = commit_version(store, made, done)
        delete(store, keys)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "delete", commit_meanwhile)
        prune(folder_store)
    # Where there is no log yet, its generation cannot be taken: then only what is older than a day is deleted.
    assert committed == ([] if first else [None])
    now = head(folder_store, "lines")
    assert (now and now.version) == (before and before.version)
    compact(folder_store, spec, run_id="test", scratch=tmp_path)
    assert set(held(folder_store, tmp_path)) == set(numbered(3 if first else 0, 9))
    assert_whole(folder_store)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_no_delta_stays_whose_files_were_pruned(folder_store: ObjectStore, tmp_path: Path, after: bool) -> None:
    at, writes = 0, 1
    while at < writes:
        store = Interrupted(folder_store, at, after, lambda: prune(folder_store))
        deliver(store, tmp_path, f"batch-{at}", numbered(10 * at, 10 * at + 10))  # made again where that is needed
        at, writes = at + 1, max(writes, store.writes)
    for ref in list_deltas(folder_store, "lines"):
        verify_files(folder_store, load_manifest(folder_store, ref.key))
    compact(folder_store, SPEC, run_id="test", scratch=tmp_path, every_delta=True)
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 10 * at))


def test_a_delta_that_is_finished_while_prune_deletes_it_is_gone_whole(
    folder_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = deliver(folder_store, tmp_path, "batch-0", numbered(0, 10))
    content = folder_store.get(manifest.key)
    folder_store.delete([manifest.key])
    delete, finished = ObjectStore.delete, []

    def finish_meanwhile(store: ObjectStore, keys: Iterable[str]) -> None:
        wanted = list(keys)
        if not finished and any(key.startswith(manifest.folder) for key in wanted):
            finished.append(manifest.key)
            store.put_new(manifest.key, content)
        delete(store, wanted)

    monkeypatch.setattr(ObjectStore, "delete", finish_meanwhile)
    prune(folder_store)
    assert finished
    assert [item.key for item in folder_store.walk(layout.deltas("lines"))] == []


def test_a_version_of_a_dead_writer_goes_and_the_current_one_stays(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "batch-0", numbered(0, 3))
    compact(folder_store, SPEC, run_id="test", scratch=tmp_path)
    version = assert_whole(folder_store).id
    folder_store.put_new(f"{layout.snapshots('lines', layout.new_version(2))}/chroma.sqlite3", b"half")
    prune(folder_store)
    assert take_inventory(folder_store, "lines").unfinished_snapshots == ()
    assert assert_whole(folder_store).id == version
    prune(folder_store)
    assert len(take_inventory(folder_store, "lines").commits) == 2  # nothing left, nothing written
    deliver(folder_store, tmp_path, "batch-1", numbered(3, 5), submitted=2000)
    compact(folder_store, SPEC, run_id="test", scratch=tmp_path)
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 5))
