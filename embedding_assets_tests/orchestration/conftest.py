from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from embedding_assets.sandbox import Sandbox
from embedding_assets_tests.cells import Cell
from embedding_assets_tests.orchestration.deployment import KEY_VARIABLE, Deployment


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(autouse=True)
def _key(shared_service: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, shared_service.api_key)


@pytest.fixture
def fresh(cell: Cell, instance: dg.DagsterInstance) -> Deployment:
    """Documents, and nothing done yet."""
    return Deployment.of(cell, instance)


@pytest.fixture
def landed_only(landed: Cell, instance: dg.DagsterInstance) -> Deployment:
    """Two batches have landed; there is no delta."""
    return Deployment.of(landed, instance)


@pytest.fixture
def complete(delivered: Cell, instance: dg.DagsterInstance) -> Deployment:
    """Two batches, one delta, one snapshot: nothing is left to do."""
    return Deployment.of(delivered, instance)
