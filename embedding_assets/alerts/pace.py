"""When a channel is tried, and what it is given at once: the rate limit, and pauses while it is down. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embedding_assets.alerts.outbox import Delivery

HOUR = 3600.0
# Longer than any channel takes to answer or to time out: who has claimed a delivery and not ended it by then is dead.
CLAIM_SECONDS = 120.0
PLAIN_AFTER = 3  # after so many failures in a row only a short plain text is tried: the content may be to blame
_FIRST_PAUSE, _LONGEST_PAUSE = 20.0, 1800.0


@dataclass(frozen=True)
class Turn:
    """What is to be done for a channel now.

    Attributes:
        send: one entry per delivery: the ids of the messages that it carries; several make a summary.
        wait_until: seconds since 1970: nothing can be sent before; 0 where nothing keeps it from being sent.
        why: what keeps it, in words.
        abandoned: the number of a delivery whose sender died; it is ended as not accepted first.
        number: the first number that is free in the log.
        failures: how often in a row the channel has not accepted.
    """

    send: tuple[tuple[str, ...], ...] = ()
    wait_until: float = 0.0
    why: str = ""
    abandoned: int | None = None
    number: int = 0
    failures: int = 0


def take_turn(log: Sequence[Delivery], waiting: Sequence[str], now: float, per_hour: int) -> Turn:
    """What a channel is given now.

    Args:
        log: its deliveries so far, in the order of numbers.
        waiting: ids of the messages that it has not accepted, the oldest first.
        now: seconds since 1970.
        per_hour: so many deliveries are accepted in an hour at most; at least 2.
    """
    last = log[-1] if log else None
    number = last.number + 1 if last else 0
    if last is not None and last.ended_at is None:
        if now < last.claimed_at + CLAIM_SECONDS:
            return Turn(wait_until=last.claimed_at + CLAIM_SECONDS, why="it is being sent to", number=number)
        return Turn(abandoned=last.number, number=number, failures=failures_in_a_row(log))
    failures = failures_in_a_row(log)
    if not waiting:
        return Turn(number=number, failures=failures)
    if last is not None and failures:
        until = (last.ended_at or 0.0) + pause(failures)
        if now < until:
            return Turn(wait_until=until, why=f"it does not accept ({last.reason})", number=number, failures=failures)
    sent = [d.ended_at for d in log if d.accepted and d.ended_at is not None and d.ended_at > now - HOUR]
    until = _next_free(sent, per_hour)
    if now < until:
        return Turn(wait_until=until, why=f"it gets {per_hour} messages an hour at most", number=number)
    # So many as fit go one by one; a storm, and what a channel has refused several times, becomes one summary.
    room = per_hour - per_hour // 2 - len(sent)
    one_by_one = len(waiting) <= room and failures < PLAIN_AFTER
    send = tuple((one,) for one in waiting) if one_by_one else (tuple(waiting),)
    return Turn(send[:1] if failures else send, number=number, failures=failures)


def pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 20 s, twice as long each time, half an hour at most."""
    return float(min(_FIRST_PAUSE * 2 ** min(failures - 1, 20), _LONGEST_PAUSE))


def failures_in_a_row(log: Sequence[Delivery]) -> int:
    """How often the channel has not accepted since it last did."""
    count = 0
    for delivery in reversed(log):
        if delivery.accepted:
            break
        count += delivery.ended_at is not None
    return count


def _next_free(sent: Sequence[float], per_hour: int) -> float:
    """When the next delivery is free: half of the hour's may go at once, the others are spread over the hour."""
    if not sent:
        return 0.0
    half = per_hour // 2
    if len(sent) < per_hour - half:
        return 0.0
    spaced = max(sent) + HOUR / half
    return max(spaced, sorted(sent)[-per_hour] + HOUR) if len(sent) >= per_hour else spaced
