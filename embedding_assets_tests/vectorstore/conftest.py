"""Fixtures of the tests of the vector store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from embedding_assets.store.objects import ObjectStore, open_store


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def disk_or_s3(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store in a folder, and one on S3."""
    makers: dict[str, Callable[[], ObjectStore]] = {
        "folder": lambda: open_store(f"file://{tmp_path}/store"),
        "s3": lambda: request.getfixturevalue("s3_store"),
    }
    return makers[request.param]()
