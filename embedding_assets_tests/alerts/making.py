"""Makes changes and messages for tests."""

from __future__ import annotations

from typing import Any

from embedding_assets.alerts.message import Change, Message

NOW = 1_800_000_000.0


def change(at: float = 1.0, *, failed: bool = True, **more: Any) -> Change:
    """A check of a delta that failed, or passes again."""
    given = {"kind": "check", "name": "deltas_are_whole", "asset": "deltas", "partition": "lines|2026-11-03", **more}
    return Change(failed=failed, at=at, **given)


def message(number: int, *changes: Change, channels: tuple[str, ...] = (), at: float = NOW) -> Message:
    """A message with these changes; with one that failed unless given."""
    return Message(
        f"20270115T080000-run-{number:04d}",
        f"run {number:08d} of embed_cell",
        at,
        changes or (change(at),),
        channels,
        f"runs/{number}",
    )
