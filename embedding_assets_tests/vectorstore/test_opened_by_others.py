"""What another program does to a folder of the store: to open it is no damage, to change a record or an index is."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chromadb
import pytest

from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.commit import log_end
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.manifest import FileEntry, Manifest, load_manifest, parse_manifest
from embedding_assets.vectorstore.quarantine import (
    execute_quarantine,
    execute_restore,
    list_quarantine,
    plan_quarantine,
    plan_restore,
)
from embedding_assets.vectorstore.snapshots import execute_rollback, plan_rollback
from embedding_assets.vectorstore.verification import LEVELS, Verdict
from embedding_assets.vectorstore.verify import verify
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import assert_whole, bring_up_to_date, deliver, file_of, flip, heal, held

VECTOR = [0.5] * SPEC.dimensions
Act = Callable[[Any], object]


@dataclasses.dataclass(frozen=True)
class Made:
    """A store in a folder with two snapshot versions and a delta that none of them holds."""

    folder: Path
    first: Manifest
    second: Manifest
    waiting: Manifest

    @property
    def store(self) -> ObjectStore:
        return open_store(f"file://{self.folder}/store")

    def place(self, manifest: Manifest) -> Path:
        return self.folder / "store" / manifest.folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    store = open_store(f"file://{folder}/store")
    deliver(store, folder, "a", numbered(0, 40))
    first = bring_up_to_date(store, folder)
    deliver(store, folder, "b", numbered(40, 60), submitted=2000)
    second = bring_up_to_date(store, folder)
    return Made(folder, first, second, deliver(store, folder, "c", numbered(60, 80), submitted=3000))


@pytest.fixture
def world(made: Made, tmp_path: Path) -> Made:
    """A copy that may be changed."""
    shutil.copytree(made.folder / "store", tmp_path / "store")
    return dataclasses.replace(made, folder=tmp_path)


def opened(folder: Path, *acts: Act) -> None:
    """Open a folder as the README says, once for each act."""
    for act in acts:
        client = chromadb.PersistentClient(str(folder), settings=chromadb.config.Settings(anonymized_telemetry=False))
        try:
            act(client)
        finally:
            client.close()


def lines(client: Any) -> Any:
    return client.get_collection("lines", embedding_function=None)


HARMLESS: dict[str, list[Act]] = {
    "opened": [lambda client: None],
    "opened five times": [lambda client: client.list_collections()] * 5,
    "read": [lambda client: lines(client).get(include=["embeddings", "documents", "metadatas"])],
    "searched": [lambda client: lines(client).query(query_embeddings=[VECTOR], n_results=3)],
}
HARMFUL: dict[str, Act] = {
    "added": lambda client: lines(client).add(ids=["another"], embeddings=[VECTOR], documents=["another"]),
    "deleted": lambda client: lines(client).delete(ids=numbered(3, 4)),
    "another text": lambda client: lines(client).update(
        ids=numbered(3, 4), embeddings=[VECTOR], documents=["another text"]
    ),
    "another vector": lambda client: lines(client).update(ids=numbered(5, 6), embeddings=[VECTOR]),
    "another collection": lambda client: client.create_collection("more", embedding_function=None),
    "another name": lambda client: lines(client).modify(name="receipts"),
}


@pytest.mark.parametrize("how", HARMLESS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_snapshot_that_was_opened_is_valid_and_said_to_be_changed(world: Made, how: str, level: Any) -> None:
    before = world.store.get(file_of(world.second, "chroma.sqlite3"))
    opened(world.place(world.second), *HARMLESS[how])
    assert world.store.get(file_of(world.second, "chroma.sqlite3")) != before
    found = verify(world.store, world.second.key, SPEC, level=level, scratch=world.folder)
    assert (found.verdict.kind, found.verdict.reason, found.count) == ("valid", "", 60)
    assert "changed by another program" in found.verdict.remark


@pytest.mark.parametrize("how", HARMLESS)
def test_readers_and_compactions_go_on_from_what_was_opened(world: Made, how: str) -> None:
    for manifest in (world.second, world.waiting):
        opened(world.place(manifest), *HARMLESS[how])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(held(world.store, world.folder)) == set(numbered(0, 60))
    verdict = verify(world.store, world.waiting.key, SPEC, level="full", scratch=world.folder).verdict
    assert (verdict.kind, "changed by another program" in verdict.remark) == ("valid", True)
    done = heal(world.store, world.folder)
    assert (done.damages, done.base) == ((), world.second.id)
    assert assert_whole(world.store).count == 80
    assert set(held(world.store, world.folder)) == set(numbered(0, 80))
    assert list_quarantine(world.store, "lines") == []


def test_an_opened_snapshot_that_lacks_nothing_is_made_again_when_asked_for(world: Made) -> None:
    current = bring_up_to_date(world.store, world.folder)
    opened(world.place(current), *HARMLESS["read"])
    done = heal(world.store, world.folder)
    assert done.manifest is not None
    assert (done.damages, done.base, done.manifest.digest) == ((), current.id, current.digest)
    assert assert_whole(world.store).id != current.id
    assert heal(world.store, world.folder).manifest == done.manifest  # and once only


def test_an_opened_version_can_be_rolled_back_to(world: Made) -> None:
    opened(world.place(world.first), *HARMLESS["read"])
    plan = plan_rollback(world.store, "lines", world.first.id)
    execute_rollback(world.store, plan, run_id="by hand")
    end = log_end(world.store, "lines")
    assert end.head is not None
    assert end.head.version == world.first.id
    assert set(held(world.store, world.folder)) == set(numbered(0, 40))


def test_a_manifest_of_an_earlier_version_says_nothing_of_changes_and_holds(world: Made) -> None:
    old = dataclasses.replace(
        world.waiting, format=1, files=tuple(FileEntry(e.path, e.size, e.sha256) for e in world.waiting.files)
    )
    assert b"changes" not in old.to_bytes()
    assert parse_manifest(old.to_bytes(), old.key) == old
    world.store.replace(old.key, old.to_bytes())
    assert verify(world.store, old.key, SPEC, level="full", scratch=world.folder).verdict.remark == ""
    opened(world.place(old), *HARMLESS["read"])
    found = verify(world.store, old.key, SPEC, level="quick", scratch=world.folder)
    assert (found.verdict.kind, bool(found.verdict.remark)) == ("valid", True)


@pytest.mark.parametrize("how", HARMFUL)
def test_a_snapshot_whose_content_was_changed_is_corrupted_and_healed(world: Made, how: str) -> None:
    opened(world.place(world.second), HARMFUL[how])
    for level in LEVELS:
        verdict = verify(world.store, world.second.key, SPEC, level=level, scratch=world.folder).verdict
        assert (verdict.kind, "chroma.sqlite3" in verdict.reason) == ("corrupted", True)
    done = heal(world.store, world.folder)
    assert [damage.name for damage in done.damages if damage.moved] == [world.second.id]
    assert set(held(world.store, world.folder)) == set(numbered(0, 80))


@pytest.mark.parametrize(("how", "kind"), [("read", "valid"), ("added", "corrupted")])
def test_what_was_moved_aside_because_it_was_opened_can_be_moved_back(world: Made, how: str, kind: str) -> None:
    """Earlier versions took an opened database for a corrupted one."""
    for manifest in (world.second, world.waiting):
        opened(world.place(manifest), *(HARMLESS[how] if how in HARMLESS else [HARMFUL[how]]))
        verdict = Verdict("corrupted", "another SHA-256")
        execute_quarantine(
            world.store,
            plan_quarantine(world.store, "lines", manifest.kind, manifest.id, manifest.folder, verdict, "old"),
        )
        plan = plan_restore(world.store, "lines", manifest.kind, manifest.id)
        assert plan.verdict.kind == kind
        assert execute_restore(world.store, plan) == (kind == "valid")
    if kind == "valid":
        assert heal(world.store, world.folder).damages == ()
        assert set(held(world.store, world.folder)) == set(numbered(0, 80))


def trigger(world: Made) -> None:
    with sqlite3.connect(world.place(world.second) / "chroma.sqlite3") as connection:
        connection.execute("CREATE TRIGGER more AFTER INSERT ON embeddings BEGIN DELETE FROM embeddings; END")


def view(world: Made) -> None:
    with sqlite3.connect(world.place(world.second) / "chroma.sqlite3") as connection:
        connection.execute("CREATE VIEW more AS SELECT * FROM embeddings")


def opened_and(act: Callable[[Made], object]) -> Callable[[Made], object]:
    def both(world: Made) -> None:
        opened(world.place(world.second), *HARMLESS["read"])
        act(world)

    return both


def replaced_counter(world: Made) -> None:
    key = file_of(world.second, "chroma.sqlite3")
    data = bytearray(world.store.get(key))
    data[27] ^= 1
    world.store.replace(key, bytes(data))


def reached_by_a_link(world: Made) -> None:
    """The file of the delta in the place of the snapshot's."""
    os.replace(world.place(world.waiting) / "chroma.sqlite3", world.place(world.second) / "chroma.sqlite3")


DAMAGES: dict[str, Callable[[Made], object]] = {
    "a trigger": trigger,
    "a view": view,
    "one bit of the change counter": replaced_counter,
    "a bit in the middle, nothing else": lambda w: flip(w.store, file_of(w.second, "chroma.sqlite3")),
    "opened, and a bit of the vectors": opened_and(lambda w: flip(w.store, file_of(w.second, "data_level0.bin"))),
    "opened, and the index gone": opened_and(lambda w: w.store.delete([file_of(w.second, "data_level0.bin")])),
    "opened, and cut": opened_and(
        lambda w: w.store.replace(
            file_of(w.second, "chroma.sqlite3"), w.store.get(file_of(w.second, "chroma.sqlite3"))[:-4096]
        )
    ),
    "opened, and a journal beside it": opened_and(
        lambda w: w.store.replace(f"{w.second.folder}/chroma.sqlite3-journal", b"half a transaction")
    ),
    "another database's file": reached_by_a_link,
}


TABLES = [
    "acquire_write", "collections", "databases", "embedding_fulltext_search_content", "embedding_fulltext_search_data",
    "embedding_fulltext_search_docsize", "embedding_metadata", "embeddings", "embeddings_queue",
    "embeddings_queue_config", "max_seq_id", "migrations", "segments", "tenants",
]  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_a_row_less_in_any_table_is_damage(world: Made, table: str) -> None:
    """Through SQLite itself, so that the file says that a program wrote it."""
    path, key = world.place(world.second) / "chroma.sqlite3", file_of(world.second, "chroma.sqlite3")
    good = path.read_bytes()
    with sqlite3.connect(path) as connection:
        rows = [row for (row,) in connection.execute(f"SELECT rowid FROM {table} ORDER BY rowid")]
    for row in dict.fromkeys((rows[0], rows[-1])):
        world.store.replace(key, good)
        with sqlite3.connect(path) as connection:
            connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))
        connection.close()
        verdict = verify(world.store, world.second.key, SPEC, level="quick", scratch=world.folder).verdict
        assert verdict.kind == "corrupted", (row, verdict)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("level", LEVELS)
def test_damage_is_still_damage_whoever_opened_the_folder(world: Made, how: str, level: Any) -> None:
    DAMAGES[how](world)
    verdict = verify(world.store, world.second.key, SPEC, level=level, scratch=world.folder).verdict
    assert (verdict.kind, verdict.remark) == ("corrupted", "")


def test_manifests_name_the_change_counter(world: Made) -> None:
    entries = {entry.path: entry.changes for entry in load_manifest(world.store, world.second.key).files}
    assert entries.pop("chroma.sqlite3") is not None
    assert set(entries.values()) == {None}


def test_one_opened_shard_of_a_snapshot_is_no_damage(tmp_path: Path) -> None:
    store, spec = open_store(f"file://{tmp_path}/store"), SPEC.model_copy(update={"shards": 2})
    deliver(store, tmp_path, "a", numbered(0, 40))
    done = compact(store, spec, run_id="test", scratch=tmp_path)
    assert done is not None
    assert done.manifest is not None
    opened(tmp_path / "store" / done.manifest.databases[0].folder, *HARMLESS["read"])
    verdict = verify(store, done.manifest.key, spec, level="quick", scratch=tmp_path).verdict
    assert (verdict.kind, verdict.remark.startswith("shard-000-of-002: changed")) == ("valid", True)
    deliver(store, tmp_path, "b", numbered(40, 50), submitted=2000)
    again = compact(store, spec, run_id="test", scratch=tmp_path)
    assert again is not None
    assert again.damages == ()
    assert assert_whole(store).count == 50


@pytest.mark.parametrize("level", LEVELS)
def test_a_change_counter_that_was_edited_into_a_manifest_is_damage(made: Made, tmp_path: Path, level: Any) -> None:
    shutil.copytree(made.folder / "store", tmp_path / "store")
    store = open_store(f"file://{tmp_path}/store")
    files = tuple(
        dataclasses.replace(one, changes=one.changes + 1) if one.changes is not None else one
        for one in made.waiting.files
    )
    store.replace(made.waiting.key, dataclasses.replace(made.waiting, files=files).to_bytes())
    verdict = verify(store, made.waiting.key, SPEC, level=level, scratch=tmp_path).verdict
    assert (verdict.kind, "change counter" in verdict.reason) == ("corrupted", True)
