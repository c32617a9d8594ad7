"""A folder is not only ours: links, pipes and odd names in it are passed over, named, and never written through."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from embedding_assets.errors import ObjectMissingError, StoreError
from embedding_assets.store.objects import ObjectStore


@pytest.fixture
def root(folder_store: ObjectStore) -> Path:
    folder_store.put_new("lines/delta/2026-11-27/a/manifest.json", b"ours")
    found = folder_store.on_disk("")
    assert found is not None
    return found


def keys(store: ObjectStore) -> list[str]:
    return [item.key for item in store.walk("")]


def strange(store: ObjectStore) -> dict[str, str]:
    return {Path(one.path).name: one.reason for one in store.strangers("")}


def test_strangers_are_passed_over_and_named(folder_store: ObjectStore, root: Path) -> None:
    day = root / "lines/delta/2026-11-27"
    (day / "loop").symlink_to(day)
    (day / "elsewhere").symlink_to("/etc/hostname")
    os.mkfifo(day / "pipe")
    (day / "with\nnewline").write_text("x")
    Path(os.fsdecode(os.fsencode(day) + b"/not-\xff-text")).write_text("x")
    assert keys(folder_store) == ["lines/delta/2026-11-27/a/manifest.json"]
    assert strange(folder_store) == {
        "loop": "is a link",
        "elsewhere": "is a link",
        "pipe": "is neither a file nor a folder",
        "with\\nnewline": "has a name with characters that cannot be printed",
        "not-\\udcff-text": "has a name that is not UTF-8",
    }


def test_nothing_is_written_deleted_or_copied_through_a_link(
    folder_store: ObjectStore, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "theirs").write_text("theirs")
    (root / "lines/delta/linked").symlink_to(outside)
    assert list(folder_store.walk("lines/delta/linked")) == []
    for attempt in (
        lambda: folder_store.put_new("lines/delta/linked/new", b"x"),
        lambda: folder_store.replace("lines/delta/linked/theirs", b"x"),
        lambda: folder_store.delete(["lines/delta/linked/theirs"]),
        lambda: folder_store.copy("lines/delta/2026-11-27/a/manifest.json", "lines/delta/linked/theirs"),
        lambda: folder_store.delete(["lines/delta/linked"]),
    ):
        with pytest.raises(StoreError, match="link"):
            attempt()
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"theirs": "theirs"}
    with pytest.raises(ObjectMissingError):
        folder_store.get("lines/delta/linked/theirs")


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "a//b", "", "a/./b", "/etc/hostname"])
def test_no_key_leads_out_of_the_folder(folder_store: ObjectStore, root: Path, key: str) -> None:
    (root.parent / "outside").write_text("theirs")
    with pytest.raises(ObjectMissingError):
        folder_store.get(key)
    for attempt in (
        lambda: folder_store.put_new(key, b"x"),
        lambda: folder_store.delete([key]),
        lambda: folder_store.copy("lines/delta/2026-11-27/a/manifest.json", key),
    ):
        with pytest.raises(StoreError):
            attempt()
    assert (root.parent / "outside").read_text() == "theirs"


def test_a_pipe_or_a_folder_in_the_place_of_a_file_is_no_object_and_blocks_nobody(
    folder_store: ObjectStore, root: Path
) -> None:
    os.mkfifo(root / "lines/latest-pointer.txt")
    (root / "lines/folder.json").mkdir()
    for key in ("lines/latest-pointer.txt", "lines/folder.json"):
        assert not folder_store.exists(key)
        with pytest.raises(ObjectMissingError):
            folder_store.get(key)
        with pytest.raises(ObjectMissingError):
            folder_store.sha256(key)
    with pytest.raises(StoreError, match="is a folder where a file belongs"):
        folder_store.replace("lines/folder.json", b"x")


def test_what_a_killed_writer_left_unfinished_is_no_object(folder_store: ObjectStore, root: Path) -> None:
    (root / "lines/delta/2026-11-27/a/manifest.json#1").write_text("half")
    assert keys(folder_store) == ["lines/delta/2026-11-27/a/manifest.json"]


def test_names_of_legacy_files_need_no_quoting(folder_store: ObjectStore, root: Path) -> None:
    odd = "lines/delta/old folder #1/50%/ä ~.bin"
    (root / odd).parent.mkdir(parents=True)
    (root / odd).write_bytes(b"old")
    assert odd in keys(folder_store)
    assert folder_store.get(odd) == b"old"
    folder_store.copy(odd, "lines/quarantine/legacy/x/a.bin")
    folder_store.delete([odd])
    assert not folder_store.exists(odd)
    assert folder_store.get("lines/quarantine/legacy/x/a.bin") == b"old"
