"""Run keys that ask again: Dagster dedupes a key for ever, failed runs included."""

from __future__ import annotations

import time

RETRY_SECONDS = 600  # a state that is still there after so long is asked for again


def bucket() -> int:
    """The current stretch of RETRY_SECONDS, as part of a run key."""
    return int(time.time() // RETRY_SECONDS)
