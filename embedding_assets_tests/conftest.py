"""Fixtures that several test folders share."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from embedding_assets.sandbox import Sandbox
from embedding_assets.store import objects
from embedding_assets.store.layout import new_id
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets_tests.cells import Cell, receipt_lines
from embedding_assets_tests.s3_server import BUCKET, S3Server, s3_server

# No example has a time limit: the machine may be slow. In CI the same examples run every time, so that a change is
# never held up by an example that it did not cause; elsewhere new ones are tried at every run.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# A second look comes as ever, but at once: the servers of these tests lie as often as they are told to, not for a time.
objects.SECOND_LOOK_SECONDS = 0.0


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector of garbage need not look at it again in every test."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture
def sandbox(shared_service: Sandbox) -> Iterator[Sandbox]:
    """The service, well-behaved at the beginning of each test."""
    shared_service.clear_faults()
    yield shared_service
    shared_service.clear_faults()


@pytest.fixture
def cell(sandbox: Sandbox, tmp_path: Path) -> Cell:
    """A collection of 20 documents, not asked for yet; two batches make one delta."""
    made = Cell.make(sandbox, tmp_path, batch_requests=10)
    made.write(receipt_lines(20))
    return made


@pytest.fixture(scope="session")
def waiting(shared_service: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A collection of 20 documents whose two batches have landed; not to be changed."""
    shared_service.clear_faults()
    made = Cell.make(shared_service, tmp_path_factory.mktemp("waiting"), batch_requests=10)
    made.write(receipt_lines(20))
    made.submit()
    made.wait()
    made.land()
    return made


@pytest.fixture(scope="session")
def finished(waiting: Cell, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """The same with one delta and a snapshot; not to be changed."""
    made = waiting.copy(tmp_path_factory.mktemp("finished"))
    made.build()
    made.compact()
    return made


@pytest.fixture
def landed(waiting: Cell, sandbox: Sandbox, tmp_path: Path) -> Cell:
    """A copy of what has landed, to be changed."""
    return waiting.copy(tmp_path)


@pytest.fixture
def delivered(finished: Cell, sandbox: Sandbox, tmp_path: Path) -> Cell:
    """A copy of what is in a snapshot, to be changed."""
    return finished.copy(tmp_path)
