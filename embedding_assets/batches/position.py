"""Where a look for work stopped: small, kept between looks, and only a hint. Without it everything is looked at."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import orjson
from pydantic import TypeAdapter, ValidationError

Cell: TypeAlias = tuple[str, str]  # collection, day

# Everything is looked at so often, whatever is remembered: nothing is forgotten for longer.
FULL_SECONDS = 3600
_LONGEST_WAIT = 3600.0


@dataclass(frozen=True)
class Position:
    """A round is one reading of the API's list, from the newest batch back, and one look at each cell that needs one.
    It may take several looks.

    Attributes:
        not_before: the API asked to be left alone until then. All times are in seconds since 1970.
        began, full_at: when the last round began, and the last one of everything.
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
    """

    not_before: float = 0.0
    began: float = 0.0
    full_at: float = 0.0
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

    @property
    def full_is_due(self) -> bool:
        """Whether the next round is one of everything."""
        return not 0 <= time.time() - self.full_at < FULL_SECONDS

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
            opened["/".join(cell)] = sent or opened.get("/".join(cell), False)
        return replace(self, open=opened)

    def after_waiting(self, seconds: float) -> Position:
        """The same, with a wait that the API asked for."""
        return replace(self, not_before=time.time() + min(seconds, _LONGEST_WAIT))


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
