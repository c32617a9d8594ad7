"""Verification of databases in the store: what is called valid, corrupted or unknown, and why."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedding_assets import local_disk
from embedding_assets.chroma import child
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.workers import TaskFailedError
from embedding_assets.errors import (
    CorruptedError,
    StoreDeniedError,
    StoreUnavailableError,
    UnreadableError,
)
from embedding_assets.records import RecordBatch, digest_of
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore import verify as verifying
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import DeltaRef, build_delta
from embedding_assets.vectorstore.manifest import FORMAT, Manifest, describe_files
from embedding_assets.vectorstore.publish import announce, place, prove
from embedding_assets.vectorstore.verify import LEVELS, Level, Verification, verify
from embedding_assets_tests.chroma.databases import Setup, api_records, client, create, edit
from embedding_assets_tests.making import SPEC, landed, make_records, numbered

DAY = "2026-03-04"
SQLITE = "chroma.sqlite3"
LEGACY = "lines/delta/lines/receipt_lines/0b1c"


@dataclasses.dataclass(frozen=True)
class World:
    """A store in a folder with one delta and one snapshot of 60 records, and a delta with an index of its own."""

    folder: Path
    delta: Manifest
    snapshot: Manifest
    indexed: Manifest

    @property
    def store(self) -> ObjectStore:
        return open_store(f"file://{self.folder}/store")

    def path(self, manifest: Manifest, file: str = "") -> Path:
        """The path of a file by its name, or of the folder of the database."""
        folder = self.folder / "store" / manifest.folder
        return next(path for path in folder.rglob(file)) if file else folder

    def verify(self, what: Any, level: Level = "full", store: ObjectStore | None = None, **how: Any) -> Verification:
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        before = self.contents()
        found = verify(store or self.store, what, how.pop("spec", SPEC), level=level, scratch=scratch, **how)
        assert self.contents() == before, "what is verified is never changed"
        assert how.get("keep_copy") or not list(scratch.iterdir()), "the scratch folder is left empty"
        return found

    def contents(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in (self.folder / "store").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("verify")
    store = open_store(f"file://{folder}/store")
    delta = build_delta(store, SPEC, DAY, [landed(folder, "a", numbered(0, 60))], run_id="test", scratch=folder)
    done = compact(store, SPEC, run_id="test", scratch=folder)
    assert done
    assert done.manifest
    return World(folder, delta, done.manifest, with_index(store, folder))


def with_index(store: ObjectStore, folder: Path) -> Manifest:
    """A delta as it is where ChromaDB has to write it itself."""
    database = DatabaseSpec("lines", 8, "cosine")
    source = Source(landed(folder, "b", numbered(0, 60)).records, "b", "b", 1000, layout.new_id())
    merged = child.merge_in_child(folder / "indexed", database, [source], records=60)
    examined = prove(folder / "indexed", database, [source], records=60, subject="a delta")
    manifest = Manifest(
        kind="delta",
        id=source.delta_id,
        collection="lines",
        model=SPEC.model,
        dimension=8,
        distance="cosine",
        count=60,
        digest=examined.digest,
        files=describe_files(folder / "indexed"),
        created_at="",
        run_id="test",
        chromadb_version=merged.chromadb_version,
        day=DAY,
    )
    place(store, manifest, folder / "indexed")
    announce(store, manifest)
    return manifest


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy that may be damaged."""
    shutil.copytree(made.folder / "store", tmp_path / "store")
    return dataclasses.replace(made, folder=tmp_path)


def ref(manifest: Manifest) -> DeltaRef:
    return DeltaRef(manifest.id, DAY, manifest.collection)


def write_legacy(folder: Path, setup: Setup, records: RecordBatch, name: str = "receipt_lines") -> None:
    create(folder, setup, name)
    with client(folder) as opened:
        opened.get_collection(name, embedding_function=None).add(
            ids=records.ids, embeddings=records.embeddings, documents=records.documents, metadatas=records.metadatas
        )


@pytest.mark.parametrize("level", LEVELS)
def test_whole_databases_are_valid_however_they_are_named(made: World, level: Level) -> None:
    commit = head(made.store, "lines")
    for what in (ref(made.delta), made.delta.key, made.delta.folder, ref(made.indexed), commit, made.snapshot.key):
        found = made.verify(what, level)
        assert (found.verdict.kind, found.verdict.reason, found.count, found.level) == ("valid", "", 60, level)
        assert found.manifest in (made.delta, made.snapshot, made.indexed)
        assert found.bytes == found.manifest.size
        # Nothing was searched for where there is no index yet.
        searched = level == "full" and found.manifest != made.delta
        assert (found.recall, found.examination is None) == (1.0 if searched else None, level == "quick")


def test_the_verified_copy_can_be_kept(made: World) -> None:
    found = made.verify(made.delta.key, keep_copy=True)
    assert found.copy is not None
    assert child.ids_of_database(found.copy, "lines") == numbered(0, 60)
    shutil.rmtree(made.folder / "scratch")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b""), _cut, _flip])
@pytest.mark.parametrize("file", [SQLITE, "data_level0.bin", "length.bin", "header.bin", "index_metadata.pickle"])
def test_every_file_is_read_back_and_named(world: World, file: str, damage: Callable[[Path], None]) -> None:
    damage(world.path(world.indexed, file))
    found = world.verify(ref(world.indexed), "quick")
    assert found.verdict.kind == "corrupted"
    assert file in found.verdict.reason


def _edited(field: str, value: Any) -> Callable[[Path], None]:
    def edit_field(path: Path) -> None:
        text = path.read_text()
        start = text.index(f'  "{field}": ')
        path.write_text(text[:start] + f'  "{field}": {value},' + text[text.index("\n", start) :])

    return edit_field


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        _cut,
        _flip,
        _edited("count", 61),
        _edited("model", '"other"'),
        _edited("run_id", '"other"'),
        _edited("created_at", '"2020-01-01"'),
        _edited("chromadb_version", "null"),
    ],
)
@pytest.mark.parametrize("kind", ["delta", "snapshot"])
def test_a_manifest_that_is_missing_or_edited(world: World, kind: str, damage: Callable[[Path], None]) -> None:
    manifest: Manifest = getattr(world, kind)
    damage(world.path(manifest, "manifest.json"))
    what = ref(manifest) if kind == "delta" else head(world.store, "lines")
    found = world.verify(what, "quick")
    assert found.verdict.kind == "corrupted"
    assert "manifest" in found.verdict.reason


def test_the_manifest_of_a_newer_format_is_unknown_and_of_an_edited_one_corrupted(world: World) -> None:
    newer = dataclasses.replace(world.delta, format=FORMAT + 1)
    world.store.replace(newer.key, newer.to_bytes())
    assert world.verify(ref(world.delta), "quick").verdict.kind == "unknown"
    world.store.replace(newer.key, world.delta.to_bytes().replace(b'"format": 4', b'"format": 5'))
    assert world.verify(ref(world.delta), "quick").verdict.kind == "corrupted"


def test_the_manifest_of_another_version_is_not_the_committed_one(world: World) -> None:
    forged = dataclasses.replace(world.snapshot, run_id="another")
    world.store.replace(forged.key, forged.to_bytes())
    assert "not the committed one" in world.verify(head(world.store, "lines"), "quick").verdict.reason


def test_files_that_chromadb_would_read_must_be_in_the_manifest_and_others_are_only_named(world: World) -> None:
    folder = world.path(world.delta)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "notes").mkdir()
    (folder / "notes/readme.txt").write_bytes(b"x")
    found = world.verify(ref(world.delta), "quick")
    assert found.verdict.kind == "valid"
    assert [key.removeprefix(found.folder) for key in found.strangers] == ["/.DS_Store", "/notes/readme.txt"]
    (folder / f"{SQLITE}-journal").write_bytes(b"x")
    found = world.verify(ref(world.delta), "quick")
    assert (found.verdict.kind, "not in its manifest" in found.verdict.reason) == ("corrupted", True)


def _refit(world: World, manifest: Manifest, **changes: Any) -> None:
    """Make a delta's manifest fit what its folder holds."""
    folder = world.path(manifest)
    (folder / "manifest.json").unlink()
    fitting = dataclasses.replace(manifest, files=describe_files(folder), **changes)
    world.store.put_new(fitting.key, fitting.to_bytes())


def _statement(sql: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder, sql)


def _length(folder: Path) -> None:
    (path,) = folder.rglob("length.bin")
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def _vector(folder: Path) -> None:
    with sqlite3.connect(folder / SQLITE) as one:
        (vector,) = one.execute("SELECT vector FROM embeddings_queue WHERE seq_id = 7").fetchone()
        one.execute("UPDATE embeddings_queue SET vector = ? WHERE seq_id = 7", (vector[4:8] + vector[4:],))
    one.close()


@pytest.mark.parametrize(
    ("kind", "damage", "reason"),
    [
        ("indexed", _statement("DELETE FROM embedding_metadata WHERE id = 3 AND key = 'n'"), "digest"),
        ("indexed", _statement("UPDATE embedding_metadata SET bool_value = 1 - bool_value WHERE id = 3"), "digest"),
        ("indexed", _statement("DELETE FROM embeddings WHERE id = 3"), "missing"),
        ("indexed", _statement("DELETE FROM segments"), "segments"),
        ("indexed", _statement("DELETE FROM migrations WHERE dir = 'metadb' AND version = 6"), "migrations"),
        ("indexed", _statement("UPDATE collections SET name = 'other'"), "other"),
        ("indexed", _length, "digest"),
        ("indexed", lambda folder: _flip(next(folder.rglob("header.bin"))), "header.bin"),
        ("indexed", lambda folder: next(folder.rglob("index_metadata.pickle")).unlink(), "pickle"),
        ("delta", _statement("DELETE FROM embeddings_queue WHERE seq_id = 3"), "59 records"),
        ("delta", _statement("UPDATE embeddings_queue SET operation = 1 WHERE seq_id = 3"), "59 records"),
        ("delta", _statement("UPDATE embeddings_queue SET id = 'other' WHERE seq_id = 3"), "digest"),
        ("delta", _statement("UPDATE embeddings_queue SET metadata = '{}' WHERE seq_id = 3"), "digest"),
        ("delta", _statement("UPDATE embeddings_queue SET metadata = '{' WHERE seq_id = 3"), "no JSON"),
        ("delta", _statement("UPDATE embeddings_queue SET vector = NULL WHERE seq_id = 3"), "without a vector"),
        ("delta", _statement("UPDATE embeddings_queue SET vector = zeroblob(28) WHERE seq_id = 3"), "8 dimensions"),
        (
            "delta",
            _statement("UPDATE embeddings_queue SET vector = CAST(x'0000c07f' || zeroblob(28) AS BLOB)"),
            "finite",
        ),
        ("delta", _statement("UPDATE embeddings_queue SET vector = 'a text'"), "8 dimensions"),
        ("delta", _statement("UPDATE embeddings_queue SET topic = 'other'"), "0 records"),
        ("delta", _statement("UPDATE collections SET dimension = 4"), "dimensions"),
        ("delta", _statement("UPDATE collections SET name = 'other'"), "other"),
        ("delta", _statement("DELETE FROM segments"), "segments"),
        ("delta", _statement("DELETE FROM embedding_fulltext_search_data WHERE id = 1"), "of an empty database"),
        ("delta", _statement("INSERT INTO maintenance_log VALUES (1, 1, 'vacuum')"), "of an empty database"),
        ("delta", _statement("UPDATE embeddings_queue SET created_at = 'then' WHERE seq_id = 3"), "time"),
        ("delta", _vector, "digest"),
    ],
)
def test_damage_with_a_manifest_that_fits_it_is_for_the_full_level(
    world: World, kind: str, damage: Callable[[Path], None], reason: str
) -> None:
    manifest: Manifest = getattr(world, kind)
    damage(world.path(manifest))
    _refit(world, manifest)
    assert world.verify(ref(manifest), "quick").verdict.kind == "valid"
    found = world.verify(ref(manifest), "full")
    assert found.verdict.kind == "corrupted"
    assert reason in found.verdict.reason


def test_sqlite_is_checked_at_the_quick_level(world: World) -> None:
    edit(world.path(world.delta), "DROP TABLE max_seq_id")
    _refit(world, world.delta)
    assert "max_seq_id" in world.verify(ref(world.delta), "quick").verdict.reason


@pytest.mark.parametrize(
    ("field", "value"), [("count", 59), ("digest", "0" * 64), ("dimension", 9), ("distance", "l2")]
)
def test_a_manifest_that_disagrees_with_its_database(world: World, field: str, value: Any) -> None:
    _refit(world, world.delta, **{field: value})
    assert world.verify(ref(world.delta), "full").verdict.kind == "corrupted"


@pytest.mark.parametrize("change", [{"model": "other"}, {"dimensions": 16}, {"distance": "l2"}])
@pytest.mark.parametrize("level", LEVELS)
def test_a_changed_declaration_makes_no_database_corrupted(made: World, change: dict[str, Any], level: Level) -> None:
    found = made.verify(ref(made.delta), level, spec=SPEC.model_copy(update=change))
    assert (found.verdict.kind, found.verdict.reason) == ("valid", "")
    assert "set aside: it holds test-model, 8 dimensions, cosine" in found.verdict.remark


@pytest.mark.parametrize("error", [StoreUnavailableError, StoreDeniedError])
@pytest.mark.parametrize("method", ["get", "sha256", "download", "walk"])
@pytest.mark.parametrize("what", ["delta", "legacy"])
def test_trouble_of_the_store_is_unknown(
    world: World, monkeypatch: pytest.MonkeyPatch, error: type[Exception], method: str, what: str
) -> None:
    store = world.store
    write_legacy(world.folder / "store" / LEGACY, Setup(), make_records(numbered(0, 3)))

    def fails(*_: Any, **__: Any) -> Any:
        raise error("the object", "the reason", "the remedy")

    if what == "legacy" and method in ("get", "sha256"):
        method = "exists"
    monkeypatch.setattr(store, method, fails)
    found = world.verify(ref(world.indexed) if what == "delta" else LEGACY, "quick", store=store)
    assert (found.verdict.kind, found.verdict.reason) == ("unknown", "the reason")
    assert isinstance(found.cause, error)


def test_what_went_wrong_on_the_way_once_is_not_the_stores(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store, real = world.store, world.store.sha256
    met: set[str] = set()

    def garbles_once(key: str) -> tuple[int, str]:
        size, digest = real(key)
        return (size, digest) if key in met or met.add(key) else (size, "0" * 64)

    monkeypatch.setattr(store, "sha256", garbles_once)
    assert world.verify(ref(world.indexed), "quick", store=store).verdict.kind == "valid"
    assert met


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a bug"), MemoryError()])
@pytest.mark.parametrize("level", LEVELS)
def test_a_full_disk_or_anything_unforeseen_is_unknown(
    world: World, monkeypatch: pytest.MonkeyPatch, error: BaseException, level: Level
) -> None:
    store = world.store

    def fails(*_: Any) -> str:
        raise error

    monkeypatch.setattr(store, "download", fails)
    assert world.verify(ref(world.delta), level, store=store).verdict.kind == "unknown"


def test_a_disk_without_room_is_unknown_before_anything_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_disk, "room", lambda _: (1, 1))
    found = world.verify(ref(world.delta), "quick")
    assert (found.verdict.kind, "bytes are needed" in found.verdict.reason) == ("unknown", True)


@pytest.mark.parametrize(("megabytes", "verdicts"), [(1, {"unknown"}), (4, {"unknown"}), (16, {"unknown", "valid"})])
def test_a_child_without_enough_memory_says_nothing_of_the_database(
    made: World, monkeypatch: pytest.MonkeyPatch, megabytes: int, verdicts: set[str]
) -> None:
    # Where memory ends at the very moment that a thread starts, Python waits for that for ever.
    monkeypatch.setattr(child, "_START_SECONDS", 10.0)
    found = made.verify(ref(made.indexed), memory=megabytes << 20)
    assert found.verdict.kind in verdicts
    assert found.verdict.kind == "valid" or isinstance(found.cause, UnreadableError)


def test_a_child_that_can_start_no_thread_says_nothing_of_the_database(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise TaskFailedError("RuntimeError: can't start new thread", answered=True)

    monkeypatch.setattr(child, "run_task", fails)
    monkeypatch.setattr(child, "chromadb_works", lambda: True)
    found = made.verify(ref(made.indexed))
    assert found.verdict.kind == "unknown"
    assert isinstance(found.cause, UnreadableError)


@pytest.mark.parametrize("refusals", [1, 2])
def test_what_chromadb_refuses_once_is_looked_at_again_with_more_memory(
    made: World, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    limits = []

    def refuses(folder: Path, *rest: Any, memory: int, **how: Any) -> Any:
        limits.append(memory)
        if len(limits) <= refusals:
            (folder / SQLITE).write_bytes(b"what it left behind")
            raise CorruptedError("the database", "InternalError: for whatever reason", "the remedy")
        return child.examine_in_child(folder, *rest, memory=memory, **how)

    monkeypatch.setattr(verifying, "examine_in_child", refuses)
    assert made.verify(ref(made.delta)).verdict.kind == ("valid" if refusals == 1 else "corrupted")
    assert limits[1] == 4 * limits[0]


def test_a_child_that_takes_too_long_says_nothing_of_the_database(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_START_SECONDS", 0.0)
    monkeypatch.setattr(child, "_RECORDS_PER_SECOND", 1e12)
    found = made.verify(ref(made.delta))
    assert (found.verdict.kind, "took longer" in found.verdict.reason) == ("unknown", True)


def test_a_copy_that_the_local_disk_spoils_says_nothing_of_the_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, real = world.store, world.store.download

    def spoils(key: str, path: Path) -> str:
        digest = real(key, path)
        data = bytearray(path.read_bytes())
        data[:3] = b"\0\0\0"
        path.write_bytes(data)
        return digest

    monkeypatch.setattr(store, "download", spoils)
    for level in LEVELS:
        found = world.verify(ref(world.delta), level, store=store)
        assert (found.verdict.kind, "local disk" in found.verdict.reason) == ("unknown", True)


@pytest.mark.parametrize("works", [True, False])
def test_what_chromadb_refuses_is_damaged_only_if_chromadb_works_here(
    world: World, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    edit(world.path(world.delta), "ANALYZE", "UPDATE collections SET schema_str = '{'")
    _refit(world, world.delta)
    monkeypatch.setattr(child, "chromadb_works", lambda: works)
    assert world.verify(ref(world.delta)).verdict.kind == ("corrupted" if works else "unknown")


def test_chromadb_works_here() -> None:
    assert child.chromadb_works()


@pytest.mark.parametrize(
    "setup", [Setup("cosine", 8, 5), Setup("l2", 8, 20), Setup("cosine", 8, 100_000), Setup("ip", 8, 7)]
)
def test_a_legacy_folder_of_any_collection_name_is_adoptable(tmp_path: Path, setup: Setup) -> None:
    folder = tmp_path / "store" / LEGACY
    records = make_records(numbered(0, 33))
    write_legacy(folder, setup, records, "some-name")
    (folder / "readme.txt").write_text("x")
    world = World(tmp_path, None, None, None)  # type: ignore[arg-type]
    found = world.verify(LEGACY, "quick", spec=SPEC.model_copy(update={"distance": setup.space}))
    assert (found.verdict.kind, found.kind, found.level, found.manifest) == ("valid", "legacy", "full", None)
    examined = found.examination
    assert examined is not None
    assert (examined.collections, examined.distance, examined.dimension) == (["some-name"], setup.space, 8)
    assert (examined.count, examined.digest) == (33, digest_of([api_records(folder, tmp_path, "some-name")]).hex())
    assert {entry.path for entry in found.files} == {e.path for e in describe_files(folder)} - {"readme.txt"}
    assert found.strangers == (f"{LEGACY}/readme.txt",)


@pytest.mark.parametrize("count", [0, 1])
def test_a_legacy_folder_with_next_to_nothing_in_it_is_valid(tmp_path: Path, count: int) -> None:
    folder = tmp_path / "store" / LEGACY
    create(folder, Setup())
    if count:
        with client(folder) as opened:
            opened.get_collection("records", embedding_function=None).add(ids=["a"], embeddings=[[1.0] * 8])
    world = World(tmp_path, None, None, None)  # type: ignore[arg-type]
    found = world.verify(LEGACY)
    assert (found.verdict.kind, found.count) == ("valid", count), found.verdict


def _wrong_magic(folder: Path) -> None:
    (folder / SQLITE).write_bytes(b"x" * 9000)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / SQLITE).unlink(),
        lambda folder: (folder / SQLITE).write_bytes(b""),
        _wrong_magic,
        lambda folder: next(folder.rglob("data_level0.bin")).unlink(),
        lambda folder: next(folder.rglob("link_lists.bin")).write_bytes(b"\1"),
        lambda folder: next(folder.rglob("index_metadata.pickle")).write_bytes(b"cos\nsystem\n(S'true'\ntR."),
        lambda folder: edit(folder, "DELETE FROM collections"),
        lambda folder: edit(folder, "DELETE FROM embeddings WHERE id = 2"),
        lambda folder: edit(folder, "DELETE FROM migrations"),
    ],
)
def test_damaged_legacy_folders(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder = tmp_path / "store" / LEGACY
    write_legacy(folder, Setup("cosine", 8, 5), make_records(numbered(0, 40)))
    damage(folder)
    found = World(tmp_path, None, None, None).verify(LEGACY)  # type: ignore[arg-type]
    assert found.verdict.kind == "corrupted"


def test_whole_legacy_folders_that_cannot_be_used_as_they_are(tmp_path: Path) -> None:
    world = World(tmp_path, None, None, None)  # type: ignore[arg-type]
    two = tmp_path / "store/lines/two"
    write_legacy(two, Setup(), make_records(numbered(0, 5)), "first")
    write_legacy(two.with_name("other"), Setup(dimension=4), make_records(numbered(0, 5), dimension=4))
    with client(two) as opened:
        opened.create_collection("second", embedding_function=None)
    newer = tmp_path / "store/lines/newer"
    write_legacy(newer, Setup(), make_records(numbered(0, 5)))
    with sqlite3.connect(newer / SQLITE) as one:
        one.execute("INSERT INTO migrations SELECT dir, 99, '00099-new.sqlite.sql', sql, hash FROM migrations LIMIT 1")
        one.execute("ALTER TABLE collections RENAME COLUMN schema_str TO schema_of_99")
    one.close()
    (tmp_path / "store/lines/empty").mkdir()
    (tmp_path / "store/lines/photos").mkdir()
    (tmp_path / "store/lines/photos/a.jpg").write_bytes(b"x")
    for name, said in [
        ("two", "collections"),
        ("other", "4 dimensions"),
        ("newer", "another version"),
        ("empty", "no database"),
        ("photos", "no database"),
    ]:
        found = world.verify(f"lines/{name}")
        assert found.verdict.kind == "unknown", name
        assert said in found.verdict.reason, name


def test_a_legacy_folder_that_changes_while_it_is_read_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "store" / LEGACY
    write_legacy(folder, Setup("cosine", 8, 5), make_records(numbered(0, 10)))
    store = open_store(f"file://{tmp_path}/store")
    real, walks = store.walk, []

    def grows(prefix: str) -> Any:
        found = [item for item in real(prefix) if walks or not item.key.endswith("length.bin")]
        walks.append(prefix)
        return iter(found)

    monkeypatch.setattr(store, "walk", grows)
    found = World(tmp_path, None, None, None).verify(LEGACY, store=store)  # type: ignore[arg-type]
    assert (found.verdict.kind, "changed" in found.verdict.reason) == ("unknown", True)


@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
def test_many_equal_vectors_and_few_links_are_no_damage(tmp_path: Path, space: str) -> None:
    records = make_records(numbered(0, 400))
    records.embeddings[50:] = records.embeddings[np.arange(350) % 4]
    write_legacy(tmp_path / "store" / LEGACY, Setup(space, 8, 50, 2), records)
    spec = SPEC.model_copy(update={"distance": space})
    found = World(tmp_path, None, None, None).verify(LEGACY, spec=spec)  # type: ignore[arg-type]
    assert found.verdict.kind == "valid", found.verdict
    assert found.examination is not None
    assert found.examination.repeated == pytest.approx(0.875)


def test_a_graph_that_leads_nowhere_is_damage(tmp_path: Path) -> None:
    folder = tmp_path / "store" / LEGACY
    write_legacy(folder, Setup("cosine", 8, 50), make_records(numbered(0, 1500)))
    path = next(folder.rglob("data_level0.bin"))
    data = bytearray(path.read_bytes())
    size = 4 + 8 * 16 + 4 * 8 + 8
    for start in range(0, len(data) - size + 1, size):
        data[start : start + 2] = b"\0\0"
    path.write_bytes(data)
    found = World(tmp_path, None, None, None).verify(LEGACY)  # type: ignore[arg-type]
    assert found.verdict.kind == "corrupted"
    assert "1500 of 1500 elements have no links" in found.verdict.reason
    assert layout.MANIFEST not in found.verdict.reason
