"""Whatever becomes of the files of the cache: readers and compactions find it, and get the right ones again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from embedding_assets.chroma.api import client_on, close_client
from embedding_assets.reading import Collection
from embedding_assets.settings import Settings
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import assert_whole, bring_up_to_date, copied, deliver, heal, held, read

IDS = numbered(0, 40)
FILES = ("chroma.sqlite3", "data_level0.bin", "header.bin", "length.bin", "link_lists.bin", "index_metadata.pickle")
OTHERS = ("_proof.json",)
RIGHT: dict[str, np.ndarray] = {}  # the vectors of `IDS`, as they were before anything was damaged


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one snapshot, and a cache in which a reader has verified it; not to be changed."""
    folder = tmp_path_factory.mktemp("world")
    store = open_store(f"file://{folder}/store")
    deliver(store, folder, "batch-a", IDS)
    bring_up_to_date(store, folder)
    with read(store, folder) as lines:
        RIGHT.update((one.id, np.asarray(one.embedding)) for one in lines.get(embeddings=True))
    return folder


@pytest.fixture
def store(world: Path, tmp_path: Path) -> ObjectStore:
    """A copy of that store, opened once by a reader."""
    store = copied(open_store(f"file://{world}/store"), open_store(f"file://{tmp_path}/store"))
    with read(store, tmp_path) as lines:
        assert lines.count() == len(IDS)
    return store


def kept(folder: Path, name: str) -> Path:
    (path,) = (folder / "cache").glob(f"*/lines/.verified/**/{name}")
    return path


def changed(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[int(len(content) * at)] ^= 0x55
    path.write_bytes(content or b"x")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_instead(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def other_vectors(path: Path) -> None:
    """As a program would that adds one to every number of an index file."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    path.write_bytes((content + 1).astype(np.uint8).tobytes() or b"x")


def forged(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"text of", b"forgery") + b"\n")


def folder_gone(path: Path) -> None:
    shutil.rmtree(path.parent)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a byte at the start": lambda path: changed(path, 0),
    "a byte in the middle": lambda path: changed(path, 0.5),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2) if path.stat().st_size else path.unlink(),
    "empty": lambda path: path.write_bytes(b"") if path.stat().st_size else path.unlink(),
    "missing": lambda path: path.unlink(),
    "a folder instead": folder_instead,
    "a pipe instead": pipe_instead,
    "a link instead": link_instead,
    "other vectors": other_vectors,
    "forged texts": forged,
    "its folder gone": folder_gone,
}


def assert_right(lines: Collection, ids: list[str] = IDS) -> None:
    """All records are there with their texts, and each is found by its vector."""
    records = lines.get(ids, embeddings=True)
    assert [record.id for record in records] == ids
    assert all(record.document.startswith("text of") for record in records)
    for record in records:
        if record.id in RIGHT:
            assert np.array_equal(np.asarray(record.embedding), RIGHT[record.id])
    for record in records[::7]:
        assert lines.query(embedding=record.embedding, n=1)[0].distance == pytest.approx(0, abs=1e-5)


def _exists(name: str, world: Path) -> bool:
    return name in OTHERS or any(path.name == name for path in (world / "store").rglob("*"))


@pytest.mark.parametrize("name", [*FILES, *OTHERS])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_reader_never_gets_what_was_damaged_in_the_cache(
    world: Path, store: ObjectStore, tmp_path: Path, name: str, damage: str
) -> None:
    if not _exists(name, world):
        pytest.skip("so small an index has no such file")
    DAMAGES[damage](kept(tmp_path, name))
    with read(store, tmp_path) as lines:
        assert_right(lines)
    # It was healed in its place: what the next reader takes is proved without another download.
    store.delete([item.key for item in store.walk("lines/snapshot/timestamped") if not item.key.endswith(".json")])
    with read(store, tmp_path) as lines:
        assert lines.count() == len(IDS)


@pytest.mark.parametrize("name", FILES)
def test_a_compaction_takes_nothing_damaged_from_the_cache(
    world: Path, store: ObjectStore, tmp_path: Path, name: str
) -> None:
    if not _exists(name, world):
        pytest.skip("so small an index has no such file")
    changed(kept(tmp_path, name), 0.5)
    deliver(store, tmp_path, "batch-b", numbered(40, 45))
    assert heal(store, tmp_path, cache_folder=tmp_path / "cache").damages == ()
    assert set(held(store, tmp_path)) == set(numbered(0, 45))
    assert_whole(store)


def test_a_change_that_hides_behind_size_and_time_is_found_by_checksums(store: ObjectStore, tmp_path: Path) -> None:
    path = kept(tmp_path, "chroma.sqlite3")
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"text of", b"forgery"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    settings = Settings("test", store.url, Path("unused"), tmp_path / "cache")
    with Collection(store, SPEC, settings, checksums=True) as lines:
        assert_right(lines)
    with read(store, tmp_path) as lines:
        assert_right(lines)


def test_what_chromadb_cannot_open_is_verified_by_checksums_and_opened_again(
    store: ObjectStore, tmp_path: Path
) -> None:
    path = kept(tmp_path, "chroma.sqlite3")
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with read(store, tmp_path) as lines:
        assert_right(lines)


def test_what_one_reader_writes_into_its_copy_no_other_reader_gets(store: ObjectStore, tmp_path: Path) -> None:
    with read(store, tmp_path) as lines:
        (own,) = {path.parent for path in (tmp_path / "cache").rglob("chroma.sqlite3") if ".open" in path.parts}
        client = client_on(own)
        client.get_collection("lines", embedding_function=None).delete(ids=IDS[:1])
        close_client(client)
        with read(store, tmp_path) as other:
            assert_right(other)
        assert lines.version == other.version
    with read(store, tmp_path) as lines:
        assert_right(lines)


def test_a_reader_that_stays_open_over_five_versions_keeps_its_own(store: ObjectStore, tmp_path: Path) -> None:
    with read(store, tmp_path) as lines:
        for number in range(5):
            deliver(store, tmp_path, f"batch-{number}", numbered(40 + number, 41 + number))
            heal(store, tmp_path, cache_folder=tmp_path / "cache")
            read(store, tmp_path).close()
        assert_right(lines)
        assert lines.count() == len(IDS)
        assert lines.refresh()
        assert_right(lines, numbered(0, 45))
    assert list((tmp_path / "cache").glob("*/lines/.open/*")) == []


def test_readers_and_a_compaction_at_once_on_a_damaged_cache(store: ObjectStore, tmp_path: Path) -> None:
    deliver(store, tmp_path, "batch-b", numbered(40, 45))
    changed(kept(tmp_path, "data_level0.bin"), 0.5)

    def reads(_: int) -> int:
        with read(store, tmp_path) as lines:
            assert_right(lines)
            return lines.count()

    with ThreadPoolExecutor(3) as pool:
        compacting = pool.submit(heal, store, tmp_path, cache_folder=tmp_path / "cache")
        counts = set(pool.map(reads, range(6)))
        assert compacting.result().merged
    assert counts <= {40, 45}
    with read(store, tmp_path) as lines:
        assert_right(lines, numbered(0, 45))
