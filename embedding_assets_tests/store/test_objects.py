"""The store interface means the same on a folder, in memory and on S3."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from obstore.exceptions import GenericError

from embedding_assets.errors import (
    ConfigurationError,
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
)
from embedding_assets.settings import S3Settings
from embedding_assets.store.objects import ObjectExistsError, ObjectStore, open_store, translate
from embedding_assets_tests.s3_server import BUCKET, S3Server


def test_an_object_is_created_once_and_the_second_writer_is_told(any_store: ObjectStore) -> None:
    any_store.put_new("a/log/1.json", b"first")
    with pytest.raises(ObjectExistsError):
        any_store.put_new("a/log/1.json", b"second")
    assert any_store.get("a/log/1.json") == b"first"


def test_repeating_a_creation_whose_answer_was_lost_counts_as_written(any_store: ObjectStore) -> None:
    any_store.put_new("a/1", b"mine")
    any_store.put_new("a/1", b"mine")


def test_of_many_creators_at_once_exactly_one_wins(any_store: ObjectStore) -> None:
    def create(writer: int) -> bool:
        try:
            any_store.put_new("race/1", f"writer {writer}".encode())
        except ObjectExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(create, range(16)))
    assert won.count(True) == 1
    assert any_store.get("race/1") == f"writer {won.index(True)}".encode()


def test_what_is_not_there_is_missing_and_says_which(any_store: ObjectStore) -> None:
    with pytest.raises(ObjectMissingError, match="nothing/here"):
        any_store.get("nothing/here")
    with pytest.raises(ObjectMissingError):
        any_store.sha256("nothing/here")
    assert not any_store.exists("nothing/here")
    assert list(any_store.walk("nothing")) == []
    assert any_store.folders("nothing") == []


def test_large_files_come_back_as_they_went(any_store: ObjectStore, tmp_path: Path) -> None:
    content = os.urandom(17_000_000)
    (tmp_path / "there").write_bytes(content)
    any_store.upload("big/one", tmp_path / "there")
    digest = hashlib.sha256(content).hexdigest()
    assert any_store.sha256("big/one") == (len(content), digest)
    assert any_store.download("big/one", tmp_path / "sub" / "back") == digest
    assert (tmp_path / "sub" / "back").read_bytes() == content


def test_walking_is_sorted_deep_and_can_start_after_a_key(any_store: ObjectStore) -> None:
    for key in ("c/b/2", "c/a", "c/b/1", "d/x"):
        any_store.put_new(key, b"x")
    assert [item.key for item in any_store.walk("c")] == ["c/a", "c/b/1", "c/b/2"]
    assert [item.key for item in any_store.walk("c", after="c/b/1")] == ["c/b/2"]
    assert any_store.folders("c") == ["b"]
    assert any_store.folders("") == ["c", "d"]


def test_deleting_what_is_gone_already_is_no_error(any_store: ObjectStore) -> None:
    any_store.put_new("x/1", b"x")
    any_store.put_new("x/2", b"x")
    any_store.delete(["x/1", "x/never", "x/2"])
    assert list(any_store.walk("x")) == []
    any_store.delete([])


def test_a_writable_store_passes_its_check_and_keeps_nothing_of_it(any_store: ObjectStore) -> None:
    any_store.check_writable("lines")
    assert list(any_store.walk("")) == []


@pytest.mark.s3
def test_wrong_credentials_are_refused_and_appear_in_no_message(s3: S3Server) -> None:
    store = open_store(f"s3://{BUCKET}/p", s3.stranger)
    for attempt in (lambda: store.get("x"), lambda: list(store.walk("")), lambda: store.put_new("x", b"")):
        with pytest.raises(StoreDeniedError) as caught:
            attempt()
        assert "a-wrong-secret" not in str(caught.value)


@pytest.mark.s3
def test_a_reader_cannot_pass_the_write_check(s3: S3Server) -> None:
    with pytest.raises(StoreDeniedError, match="credentials"):
        open_store(f"s3://{BUCKET}/p", s3.reader).check_writable("lines")


@pytest.mark.s3
def test_a_reader_cannot_delete(s3: S3Server, s3_store: ObjectStore) -> None:
    s3_store.put_new("kept", b"1")
    with pytest.raises(StoreDeniedError):
        open_store(s3_store.url, s3.reader).delete(["kept"])
    assert s3_store.exists("kept")


def test_a_request_that_took_403_milliseconds_is_not_taken_for_a_refused_one() -> None:
    slow = GenericError("GET http://127.0.0.1/x in 403.401ms - Server returned status code: 503")
    assert isinstance(translate("x", slow), StoreUnavailableError)
    refused = GenericError(
        "Error performing GET http://127.0.0.1/x in 1.2ms - Server returned status code: 403 Forbidden"
    )
    assert isinstance(translate("x", refused), StoreDeniedError)


@pytest.mark.s3
def test_a_bucket_that_is_not_there_is_said_to_be_missing(s3: S3Server) -> None:
    store = open_store("s3://no-such-bucket/p", s3.writer)
    for attempt in (
        lambda: store.check_writable("lines"),
        lambda: list(store.walk("")),
        lambda: store.folders("lines"),
    ):
        with pytest.raises(StoreError, match=r"no-such-bucket.*the bucket does not exist") as caught:
            attempt()
        assert not isinstance(caught.value, StoreUnavailableError)


def test_a_server_that_does_not_answer_is_trouble_and_not_absence() -> None:
    nobody = S3Settings(
        endpoint_url="http://127.0.0.1:9", aws_access_key_id="a", aws_secret_access_key="b", max_attempts=0
    )
    with pytest.raises(StoreUnavailableError):
        open_store("s3://bucket/p", nobody).get("x")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://host/x", "unknown form"),
        ("s3://", "names no bucket"),
        ("file://relative/folder", "names no folder"),
        ("file:///", "names no folder"),
        ("file:///no/such/parent/store", "is not there"),
    ],
)
def test_a_url_that_is_no_store_is_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        open_store(url)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    (tmp_path / "store" / "lines").write_text("a file where a folder should be")
    with pytest.raises(StoreError):
        store.check_writable("lines")
