"""URLs that people write for a store: what is meant, and what they are told where that is not clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedding_assets.errors import ConfigurationError
from embedding_assets.store.objects import open_store
from embedding_assets.store.urls import path_in_url


@pytest.mark.parametrize(
    "name", ["store", "store/", "a b", "a%20b", "a%23b", "a%3Fb", "100%", "ü", "x/../store", "x//y"]
)
def test_a_folder_of_any_name_can_be_a_store_and_is_the_one_that_is_meant(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").mkdir()
    store = open_store(f"file://{tmp_path}/{name}")
    store.put_new("lines/one", b"1")
    meant = tmp_path / name.replace("%20", " ").replace("%23", "#").replace("%3F", "?")
    assert (meant / "lines" / "one").read_bytes() == b"1"
    assert (store.get("lines/one"), store.sha256("lines/one")[0]) == (b"1", 1)
    assert [item.key for item in open_store(store.url, must_exist=True).walk("")] == ["lines/one"]


def test_a_link_to_a_folder_can_be_a_store(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    open_store(f"file://{tmp_path}/link").put_new("lines/one", b"1")
    assert (tmp_path / "real" / "lines" / "one").is_file()


@pytest.mark.parametrize(
    ("url", "says", "do"),
    [
        ("file://{here}/a#b", "has a # or a ?", "file://{here}/a%23b (earlier versions wrote to file://{here}/a)"),
        ("file://{here}/a?b", "has a # or a ?", "file://{here}/a%3Fb"),
        ("file://{here}/a b#c", "has a # or a ?", "file://{here}/a%20b%23c"),
        ("file://{here}/a#", "has a # or a ?", "file://{here}/a%23"),
        ("s3://bucket/a#b", "has a # or a ?", "earlier versions wrote to s3://bucket/a)"),
        ("s3://bucket/a?version=1", "has a # or a ?", "Choose a prefix without them"),
        ("{here}/store", "is a path and no URL", "Write it as file://{here}/store"),
        ("{here}/a#b", "is a path and no URL", "Write it as file://{here}/a%23b"),
        ("store", "is a path and no URL", "Write it as file:///"),
        ("./store", "is a path and no URL", "/store"),
        ("~/store", "is a path and no URL", "/store"),
        ("file:store", "names no folder", "file:///absolute/folder"),
        ("file://store", "names no folder", "file:///absolute/folder"),
        ("file://", "names no folder", "file:///absolute/folder"),
        ("file:////", "names no folder", "file:///absolute/folder"),
        ("s3:bucket/prefix", "names no bucket", "s3://bucket/prefix"),
        ("s3:///prefix", "names no bucket", "s3://bucket/prefix"),
        ("s3://bucket/a/../b", "a ..", "s3://bucket/a/b"),
        ("s3://bucket/a//b", "empty name", "s3://bucket/a/b"),
        ("file://{here}/store ", "blank at an end", "%20"),
        ("file://{here}/st\nore", "control character", "Correct EMBEDDING_ASSETS_STORE"),
        ("file://{here}/st%00ore", "control character", "Correct EMBEDDING_ASSETS_STORE"),
        ("gs://bucket/prefix", "unknown form gs://", "s3://bucket/prefix"),
        ("C:\\data\\store", "unknown form c://", "file:///a/folder"),
        ("file://{here}/no/store", "is not there", "Create it"),
        ("file://{here}/a-file/store", "is not there", "Create it"),
    ],
)
def test_what_is_no_store_is_refused_with_what_to_write(tmp_path: Path, url: str, says: str, do: str) -> None:
    (tmp_path / "a-file").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        open_store(url.replace("{here}", str(tmp_path)))
    assert says in caught.value.reason
    assert do.replace("{here}", str(tmp_path)) in caught.value.remedy
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-file"]


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    with pytest.raises(ConfigurationError, match="is a file"):
        open_store(f"file://{tmp_path}/a-file", must_exist=True)


@pytest.mark.parametrize(
    "url", ["s3://user:secret@bucket/p", "//user:secret@host/p", "user:secret@host/p", "x://a:secret@b"]
)
def test_what_may_hold_a_password_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///a/day-?.jsonl", "/a/day-?.jsonl"),
        ("file:///a/%23x#y.jsonl", "/a/#x#y.jsonl"),
        ("file://localhost/a", "/a"),
        ("file:/a/b", "/a/b"),
    ],
)
def test_the_path_of_a_url_is_whole(url: str, path: str) -> None:
    assert path_in_url(url) == path
