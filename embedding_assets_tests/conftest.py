"""Fixtures that several test folders share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedding_assets.sandbox import Sandbox
from embedding_assets.store.layout import new_id
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets_tests.s3_server import BUCKET, S3Server, s3_server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server for the whole test session."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def folder_store(tmp_path: Path) -> ObjectStore:
    """An empty store in a folder."""
    return open_store(f"file://{tmp_path}/store")


@pytest.fixture
def s3_store(s3: S3Server) -> ObjectStore:
    """An empty store on S3: a prefix that no other test has."""
    return open_store(f"s3://{BUCKET}/{new_id()}", s3.writer)


@pytest.fixture(params=["folder", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind in turn."""
    makers: dict[str, Callable[[], ObjectStore]] = {
        "folder": lambda: open_store(f"file://{tmp_path}/store"),
        "memory": lambda: open_store("memory://"),
        "s3": lambda: request.getfixturevalue("s3_store"),
    }
    return makers[request.param]()


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One service for the tests of the whole; its batches pile up, so their collections have names of their own."""
    with Sandbox.start(tmp_path_factory.mktemp("service"), api_key="sk-sandbox-0123456789abcdef") as running:
        yield running
