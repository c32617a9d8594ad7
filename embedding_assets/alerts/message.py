"""What is told: changes, and the messages that group them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["check", "step", "job", "sensor", "schedule", "channel"]
Severity = Literal["WARN", "ERROR", "STOPPED"]
# STOPPED: an ERROR that so many attempts have met that a person is needed.
_RANKS: dict[Severity, int] = {"WARN": 0, "ERROR": 1, "STOPPED": 2}


@dataclass(frozen=True)
class Change:
    """Something failed or works again.

    Attributes:
        kind: what it is.
        name: of the check, step, job, sensor, schedule or channel.
        failed: False: it recovered.
        at: when that was observed, in seconds since 1970.
        severity: how bad; of a recovery, how bad it had been.
        asset: of a check: its asset.
        partition: of checks, steps and jobs that have one.
        found: what was found, in words.
        by_itself: what the pipeline does about it without a person.
        to_do: what a person can do.
        page: path of its page in the UI.
        since: of a recovery: when it had failed, in seconds since 1970.
    """

    kind: Kind
    name: str
    failed: bool
    at: float
    severity: Severity = "ERROR"
    asset: str = ""
    partition: str = ""
    found: str = ""
    by_itself: str = ""
    to_do: str = ""
    page: str = ""
    since: float | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is about: equal for a failure and its recovery."""
        return (self.kind, self.asset, self.name, self.partition)

    def worse_than(self, other: Change) -> bool:
        """Whether its severity is greater."""
        return _RANKS[self.severity] > _RANKS[other.severity]


@dataclass(frozen=True)
class Message:
    """The changes that one run (or look at the sensors) brought.

    Attributes:
        id: unique; begins with a time, so that ids sort by it; the same for the same cause, however often it is seen.
        about: what brought them, in words.
        made_at: seconds since 1970.
        changes: in the order in which they happened.
        channels: ids of the channels that it is for.
        page: path of the run's page in the UI.
        unreadable: it is damaged, and stands for what it said: every channel is told that it cannot be read.
    """

    id: str
    about: str
    made_at: float
    changes: tuple[Change, ...]
    channels: tuple[str, ...]
    page: str = ""
    unreadable: bool = False
