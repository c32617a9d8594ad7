"""The clock that decides, moved for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import pytest

from embedding_assets.store import layout


@contextmanager
def later(hours: float) -> Iterator[None]:
    """So many hours from now."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "now", lambda: datetime.now(timezone.utc) + timedelta(hours=hours))
        yield
