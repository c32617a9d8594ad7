"""What maintenance found, would do, or did: rows of plain values, the same for the command line, the UI and scripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

Row: TypeAlias = dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Findings:
    """What was found in one collection.

    Attributes:
        collection: whose.
        rows: one per thing; `verdict`, where there is one, is `valid`, `corrupted` or `unknown`.
        summary: one line for people.
    """

    collection: str
    rows: tuple[Row, ...]
    summary: str = ""

    def count(self, verdict: str) -> int:
        """Rows with this verdict."""
        return sum(row.get("verdict") == verdict for row in self.rows)


@dataclass(frozen=True)
class Planned:
    """What an operation would do to one collection, and how to do it.

    Attributes:
        collection: whose.
        rows: what would be done, one per thing.
        execute: does it and says what was done.
        warning: what is lost or costs something by it; empty where nothing does.
        unjudged: how many things were left alone because they could not be judged just now.
    """

    collection: str
    rows: tuple[Row, ...]
    execute: Callable[[], Findings] = field(compare=False, repr=False)
    warning: str = ""
    unjudged: int = 0

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to do."""
        return not self.rows
