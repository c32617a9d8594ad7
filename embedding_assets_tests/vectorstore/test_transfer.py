"""From a store that is a folder, what is only read is not copied; what may be changed always is."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from embedding_assets.errors import CorruptedError
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore import gather
from embedding_assets.vectorstore.transfer import download_files
from embedding_assets_tests.making import numbered
from embedding_assets_tests.vectorstore.worlds import deliver, file_of, flip, heal


def test_of_a_base_in_a_folder_only_what_may_be_changed_is_copied(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 20))
    manifest = heal(folder_store, tmp_path).manifest
    assert manifest is not None
    traffic = download_files(folder_store, manifest, tmp_path / "base", copy=tmp_path / "copy")
    assert (traffic.downloaded, traffic.cached) == (manifest.size, 0)
    for entry in manifest.files:
        stored = folder_store.on_disk(f"{manifest.folder}/{entry.path}")
        assert stored is not None
        shared = stored.samefile(tmp_path / "base" / entry.path)
        assert shared is (entry.path != "chroma.sqlite3")  # whoever opens a database may change that one
        assert not stored.samefile(tmp_path / "copy" / entry.path)
        assert stored.read_bytes() == (tmp_path / "copy" / entry.path).read_bytes()
    download_files(folder_store, manifest, tmp_path / "alone")
    assert not any(
        (tmp_path / "alone" / e.path).samefile(folder_store.on_disk(f"{manifest.folder}/{e.path}") or tmp_path)
        for e in manifest.files
    )


@pytest.mark.parametrize("name", ["chroma.sqlite3", "data_level0.bin"])
def test_a_base_that_is_damaged_in_its_folder_is_not_taken(
    folder_store: ObjectStore, tmp_path: Path, name: str
) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 20))
    manifest = heal(folder_store, tmp_path).manifest
    assert manifest is not None
    flip(folder_store, file_of(manifest, name))
    with pytest.raises(CorruptedError, match=f"{name} is not the one in the manifest"):
        download_files(folder_store, manifest, tmp_path / "base", copy=tmp_path / "copy")


def test_deltas_come_while_the_snapshot_does(
    folder_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 20))
    heal(folder_store, tmp_path)
    deliver(folder_store, tmp_path, "b", numbered(20, 30))
    fetch, take, coming = gather._fetch, gather._take_base, threading.Event()

    def fetches(*arguments: Any) -> Any:
        coming.set()
        return fetch(*arguments)

    def takes(*arguments: Any) -> bool:
        assert coming.wait(60), "no delta comes before the snapshot is there"
        return take(*arguments)

    monkeypatch.setattr(gather, "_fetch", fetches)
    monkeypatch.setattr(gather, "_take_base", takes)
    manifest = heal(folder_store, tmp_path).manifest
    assert manifest is not None
    assert manifest.count == 30
