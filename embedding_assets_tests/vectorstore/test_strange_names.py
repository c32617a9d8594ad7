"""Names that other programs leave in a store stop nobody, and are said."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from embedding_assets.errors import CorruptedError
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import head, log_end
from embedding_assets.vectorstore.manifest import parse_manifest
from embedding_assets_tests.forging import forge
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import deliver, heal, held


def test_a_name_with_a_month_13_is_no_id() -> None:
    assert layout.time_of("20261324T023128123456-1f0c9a2b") is None
    assert layout.generation_of("0000000001-20261324T023128123456-1f0c9a2b") is None


@pytest.mark.parametrize("generation", [5_000, 9_999_999_999])
@pytest.mark.parametrize("content", ["garbage", "valid"])
def test_a_stray_entry_far_beyond_the_log_neither_hides_nor_stops_commits(
    folder_store: ObjectStore, tmp_path: Path, generation: int, content: str
) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 6))
    heal(folder_store, tmp_path)
    key = layout.commit_log("lines", generation)
    folder_store.put_new(key, folder_store.get(layout.commit_log("lines", 1)) if content == "valid" else b"garbage")
    if content == "valid":
        forge(folder_store, key, key=key, generation=generation)
    deliver(folder_store, tmp_path, "b", numbered(6, 12))
    heal(folder_store, tmp_path)
    folder_store.delete([layout.pointer("lines")])
    assert (log_end(folder_store, "lines").generation, set(held(folder_store, tmp_path))) == (2, set(numbered(0, 12)))


def test_files_of_other_programs_in_every_folder_change_no_verdict(folder_store: ObjectStore, tmp_path: Path) -> None:
    delta = deliver(folder_store, tmp_path, "a", numbered(0, 6))
    made = heal(folder_store, tmp_path)
    assert made.manifest is not None
    root = folder_store.on_disk("")
    assert root is not None
    for folder, _, _ in list(os.walk(root)):
        Path(folder, ".DS_Store").write_bytes(b"mac")
        Path(folder, "Thumbs.db").write_bytes(b"windows")
    os.mkfifo(root / delta.folder / "pipe")
    (root / "lines" / "odd\x1bname").write_text("x")
    found = check_collection(folder_store, SPEC, "full", tmp_path)
    assert (found.count("valid"), found.count("corrupted"), found.count("unknown")) == (2, 0, 0)
    assert {"lines/odd\\x1bname", f"{delta.folder}/pipe"} <= {
        str(row["name"]).removeprefix(f"{root}/") for row in found.rows if row.get("kind") == "stranger"
    }
    deliver(folder_store, tmp_path, "b", numbered(6, 12))
    heal(folder_store, tmp_path)
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 12))


@pytest.mark.parametrize("path", ["", "a//b", "/a", "../a", "a/../../b", "a\x00b", "a\nb", "x" * 4000, "."])
def test_a_manifest_that_names_an_impossible_file_is_damaged(
    folder_store: ObjectStore, tmp_path: Path, path: str
) -> None:
    manifest = deliver(folder_store, tmp_path, "a", numbered(0, 6))
    files = (*manifest.files, replace(manifest.files[0], path=path))
    with pytest.raises(CorruptedError, match="outside its folder"):
        parse_manifest(replace(manifest, files=files).to_bytes(), manifest.key)


def test_a_link_in_the_place_of_a_delta_is_neither_healed_nor_pruned_through(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 6))
    moved = deliver(folder_store, tmp_path, "b", numbered(6, 12))
    root = folder_store.on_disk("")
    assert root is not None
    elsewhere = tmp_path / "elsewhere"
    (root / moved.folder).rename(elsewhere)
    (elsewhere / "manifest.json").write_bytes(b"damaged")
    (root / moved.folder).symlink_to(elsewhere)
    before = {path: path.read_bytes() for path in elsewhere.iterdir()}
    heal(folder_store, tmp_path)
    assert head(folder_store, "lines") is not None
    assert {path: path.read_bytes() for path in elsewhere.iterdir()} == before


def test_repair_goes_on_beside_what_a_killed_writer_left_unfinished(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 6))
    heal(folder_store, tmp_path)
    folder_store.put_new(f"{layout.deltas('lines', '2026-11-27')}/{layout.new_id()}/chroma.sqlite3", b"half of it")
    repair(folder_store, SPEC, level="quick", run_id="test", scratch=tmp_path).execute()
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 6))
