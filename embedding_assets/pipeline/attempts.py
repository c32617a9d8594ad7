"""Whether something is tried again, and when: never twice at once, and after growing pauses. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# So many failures for one and the same state, spread over more than two hours, need a person, who is told so. An outage
# may last longer all the same: it is tried now and then, so that what heals by itself goes on by itself.
ATTEMPTS = 6
_FIRST_PAUSE, _LONGEST_PAUSE, _HOPELESS_PAUSE = 60.0, 3600.0, 12 * 3600.0


@dataclass(frozen=True)
class PastRun:
    """A run on the partition that something is to be done for.

    Attributes:
        state: what it was asked for; None: somebody launched it by hand.
        ended_at: seconds since 1970; None: it is queued or under way.
        succeeded: whether it ended well.
        cancelled: whether somebody ended it on purpose.
    """

    state: str | None
    ended_at: float | None
    succeeded: bool = False
    cancelled: bool = False


@dataclass(frozen=True)
class Attempt:
    """What is to be done about a state.

    Attributes:
        kind: `now`; `later`, not before `at`; `under way`; `done`: a run has ended well, which is enough.
        number: which attempt for this state it is, from 1, since the last success or launch by hand.
        at: seconds since 1970, where it is `later`.
    """

    kind: Literal["now", "later", "under way", "done"]
    number: int = 1
    at: float = 0.0

    @property
    def last(self) -> bool:
        """Whether a person is needed, should it fail."""
        return self.number >= ATTEMPTS

    @property
    def hopeless(self) -> bool:
        """Whether so many have failed that it is tried only now and then."""
        return self.number > ATTEMPTS


def next_attempt(state: str, past: Sequence[PastRun], now: float, *, once: bool = False) -> Attempt:
    """Whether a run for this state is asked for now.

    Failures for other states count for the pauses, so that a disk that is full does not fail anew with every new
    delta; they do not count as attempts, so that something new is always tried. A launch by hand makes all begin anew.
    A cancelled run is no failure: the same state is left alone for the longest pause, and another state is tried.

    Args:
        state: what there is to do; changes whenever there is something else to do.
        past: the runs on the partition, the newest first.
        now: seconds since 1970.
        once: whether a run that ended well is enough, though the state stays as it is.
    """
    if any(run.ended_at is None for run in past):
        return Attempt("under way")
    if once and any(run.succeeded and run.state == state for run in past):
        return Attempt("done")
    cancelled = past[0] if past and past[0].cancelled and past[0].state in (None, state) else None
    past = [run for run in past if not run.cancelled]
    in_vain, failures, number = 0, 0, 1
    for run in past:
        if run.state is None:  # by hand: it does not count, but it is not followed at once either
            in_vain += not run.succeeded and not in_vain
            break
        if run.succeeded and run.state != state:
            break
        # A success that left the state as it was is no failure, but no reason to try again at once.
        in_vain += 1
        if not run.succeeded:
            failures += run.state == state
    number = failures + 1
    wait = _HOPELESS_PAUSE if number > ATTEMPTS else pause(in_vain)
    at = (past[0].ended_at or 0.0) + wait if in_vain else 0.0
    if cancelled:
        at = max(at, (cancelled.ended_at or 0.0) + _LONGEST_PAUSE)
    if now < at:
        return Attempt("later", number, at)
    return Attempt("now", number)


def pause(in_vain: int) -> float:
    """Seconds to wait after so many runs in vain: 1 minute, four times as long each time, an hour at most."""
    return float(min(_FIRST_PAUSE * 4 ** min(in_vain - 1, 10), _LONGEST_PAUSE))
