from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedding_assets.sandbox import Sandbox
from embedding_assets_tests.cells import Cell, receipt_lines


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


@pytest.fixture(scope="package")
def waiting(shared_service: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A collection of 20 documents whose two batches have landed; not to be changed."""
    shared_service.clear_faults()
    made = Cell.make(shared_service, tmp_path_factory.mktemp("waiting"), batch_requests=10)
    made.write(receipt_lines(20))
    made.submit()
    made.wait()
    made.land()
    return made


@pytest.fixture(scope="package")
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
