from __future__ import annotations

from collections.abc import Iterator

import pytest

from embedding_assets.sandbox import Sandbox


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox.start(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(service: Sandbox) -> Iterator[Sandbox]:
    """One service for all tests, well-behaved at the beginning of each."""
    service.clear_faults()
    yield service
    service.clear_faults()
