"""What is on this machine already is not moved over the network again, and never believed without its checksum."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.compact import Compaction
from embedding_assets_tests.making import numbered
from embedding_assets_tests.vectorstore.worlds import assert_whole, deliver, flip, heal, held, read


class CountingStore(ObjectStore):
    """Notes the keys whose content was read."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store._backend, store.url)
        self.keys: list[str] = []

    def on_disk(self, key: str) -> None:
        """Nothing of it can be had but through the store."""

    def _stream(self, key: str) -> Iterator[bytes]:
        self.keys.append(key)
        return super()._stream(key)


def compacted(store: ObjectStore, folder: Path, batch: str, first: int, last: int) -> Compaction:
    """One more batch, compacted with the cache that `read` uses, too."""
    deliver(store, folder, batch, numbered(first, last))
    return heal(store, folder, cache_folder=folder / "cache")


@pytest.mark.parametrize("opened", [False, True])
def test_a_compaction_takes_its_base_from_the_cache_though_readers_have_opened_it(
    folder_store: ObjectStore, tmp_path: Path, opened: bool
) -> None:
    first = compacted(folder_store, tmp_path, "a", 0, 40)
    assert first.manifest is not None
    assert (first.traffic.cached, first.traffic.uploaded) == (0, first.manifest.size)
    if opened:
        with read(folder_store, tmp_path) as lines:
            assert lines.count() == 40
    second = compacted(folder_store, tmp_path, "b", 30, 50)
    assert second.traffic.cached == first.manifest.size
    assert second.traffic.downloaded == sum(delta.size for delta in second.deltas)
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 50))
    assert_whole(folder_store)


def test_a_reader_on_the_machine_that_compacted_downloads_nothing(folder_store: ObjectStore, tmp_path: Path) -> None:
    done = compacted(folder_store, tmp_path, "a", 0, 40)
    store = CountingStore(folder_store)
    with read(store, tmp_path) as lines:
        assert (lines.count(), lines.version) == (40, done.manifest.id if done.manifest else "")
    assert store.keys == []


def test_what_is_damaged_in_the_cache_is_downloaded_and_what_is_not_is_taken(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    first = compacted(folder_store, tmp_path, "a", 0, 40)
    (damaged,) = (tmp_path / "cache").rglob("data_level0.bin")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    second = compacted(folder_store, tmp_path, "b", 30, 50)
    assert first.manifest is not None
    assert second.traffic.cached == first.manifest.size - len(content)
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 50))
    assert_whole(folder_store)


@pytest.mark.parametrize("more", [False, True])
def test_the_cache_never_hides_that_somebody_wrote_over_the_store(
    folder_store: ObjectStore, tmp_path: Path, more: bool
) -> None:
    first = compacted(folder_store, tmp_path, "a", 0, 40).manifest
    assert first is not None
    flip(folder_store, f"{first.folder}/chroma.sqlite3")
    if more:
        deliver(folder_store, tmp_path, "b", numbered(40, 45))
    done = heal(folder_store, tmp_path, cache_folder=tmp_path / "cache")
    assert [(damage.name, damage.moved) for damage in done.damages] == [(first.id, True)]
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 45 if more else 40))
    assert_whole(folder_store)


def test_a_cache_that_cannot_be_written_stops_no_compaction(folder_store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert compacted(folder_store, tmp_path, "a", 0, 10).merged
    assert compacted(folder_store, tmp_path, "b", 10, 20).traffic.cached == 0
    assert_whole(folder_store)


def test_the_cache_keeps_few_versions(folder_store: ObjectStore, tmp_path: Path) -> None:
    for number in range(4):
        compacted(folder_store, tmp_path, f"b{number}", 5 * number, 5 * number + 5)
    (kept,) = (tmp_path / "cache").glob("*/lines/.verified")
    assert len(list(kept.iterdir())) == 2
