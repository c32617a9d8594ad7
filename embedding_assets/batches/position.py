"""Where a look for work stopped: small, kept between looks, and only a hint. Without it everything is looked at."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TypeAlias

import orjson
from pydantic import TypeAdapter, ValidationError

from embedding_assets.store import layout

Cell: TypeAlias = tuple[str, str]  # collection, day

# Everything is looked at so often, whatever is remembered: nothing is forgotten for longer.
FULL_SECONDS = 3600
# Cells that are older than any batch the API still has are all looked at so often; those that wait are remembered.
OLD_SECONDS = 86_400
# A sent batch is looked at within an hour: so often, since a round may take several looks.
SOUGHT_SECONDS = 3000
_LONGEST_WAIT = 3600.0


@dataclass(frozen=True)
class Position:
    """A round is one reading of the API's list, from the newest batch back, and one look at each cell that needs one.
    It may take several looks.

    Attributes:
        not_before: the API asked to be left alone until then. All times are in seconds since 1970.
        began, full_at: when the last round began, and the last one of everything.
        old_at: when the last round began that looked at the oldest cells, too.
        over: whether the round is over.
        listed: whether the API's list has been read as far back as this round needs.
        horizon: batches created before that are not looked for in this round.
        head: the first batch of the list in this round; met again, the list has begun again.
        after: the last batch that was read; the list is gone on with behind it.
        created: when that was created; None where nothing was read yet.
        ordered: whether the list has gone back in time so far; where it does not, it is read to its end.
        under_way: how many known batches this round has seen that are not finished.
        left: the cells that are still to be looked at in this round.
        open: the cells in which something was under way or to be done when last looked at; True where batches were
            sent of which nothing is landed.
        quarantined: what the caller knows of the quarantine, to see when that changes.
        again: what the last count of records to be asked again gave, for the cells that are marked: the state of the
            cell's names, how many, and when.
        sought: when the last round began in which each sent batch of a cell was looked at, listed or not.
        seen: the requests whose batches this round has seen, of the cells that are to be sought; their first digits.
    """

    not_before: float = 0.0
    began: float = 0.0
    full_at: float = 0.0
    old_at: float = 0.0
    over: bool = True
    listed: bool = True
    horizon: float = 0.0
    head: str = ""
    after: str = ""
    created: int | None = None
    ordered: bool = True
    under_way: int = 0
    left: tuple[Cell, ...] = ()
    open: Mapping[str, bool] = field(default_factory=dict)
    quarantined: str = ""
    again: Mapping[str, tuple[str, int, float]] = field(default_factory=dict)
    sought: Mapping[str, float] = field(default_factory=dict)
    seen: tuple[str, ...] = ()

    @property
    def full_is_due(self) -> bool:
        """Whether the next round is one of everything."""
        return _is_due(self.full_at, FULL_SECONDS)

    @property
    def old_is_due(self) -> bool:
        """Whether the next round of everything looks at the oldest cells, too."""
        return _is_due(self.old_at, OLD_SECONDS)

    def is_sought(self, cell: Cell) -> bool:
        """Whether each sent batch of a cell is to be looked at in this round."""
        return _is_due(self.sought.get(key_of(cell), 0.0), SOUGHT_SECONDS)

    def to_text(self) -> str:
        """As a cursor."""
        return orjson.dumps(self).decode()

    @classmethod
    def parse(cls, text: str | None) -> Position:
        """The inverse; what cannot be read counts as no position."""
        try:
            return _ADAPTER.validate_json(text or "{}")
        except ValidationError:
            return cls()

    def with_open(self, cells: Iterable[Cell], sent: bool = False) -> Position:
        """The same, with these cells open too."""
        opened = dict(self.open)
        for cell in cells:
            opened[key_of(cell)] = sent or opened.get(key_of(cell), False)
        return replace(self, open=opened)

    def after_waiting(self, seconds: float) -> Position:
        """The same, with a wait that the API asked for."""
        return replace(self, not_before=layout.now().timestamp() + min(seconds, _LONGEST_WAIT))


def _is_due(before: float, seconds: float) -> bool:
    return not 0 <= layout.now().timestamp() - before < seconds


_ADAPTER = TypeAdapter(Position)


@dataclass
class Budget:
    """How much one look may do. It looks on as long as neither is used up, and does at least one thing.

    Attributes:
        pages: pages of the API's list.
        seconds: from now.
    """

    pages: float = float("inf")
    seconds: float = float("inf")
    began: float = field(default_factory=time.monotonic)

    @property
    def time_is_up(self) -> bool:
        """Whether the seconds are used up."""
        return time.monotonic() - self.began >= self.seconds


def key_of(cell: Cell) -> str:
    """A cell as a text."""
    return "/".join(cell)


def cell_of(key: str) -> Cell:
    """The inverse."""
    collection, _, day = key.partition("/")
    return collection, day


def is_cell(cell: Cell) -> bool:
    """Whether a cell has a day as cells are named by."""
    return is_day(cell[1])


def is_day(text: str) -> bool:
    """Whether a text is a day as cells are named by."""
    try:
        datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        return False
    return True


def start_of(day: str) -> float:
    """When a day begins, in seconds since 1970."""
    return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=timezone.utc).timestamp()
