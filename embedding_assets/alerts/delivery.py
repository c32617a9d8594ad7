"""Brings messages to channels: each to each of them once, whatever dies; forgets what is long settled.

Before a channel is given anything, the delivery is claimed in its log; after it accepted, that is written down. A
sender that dies between the two leaves a claim without an end: after CLAIM_SECONDS another one sends again. So nothing
is lost, and a message comes twice only if its sender died (or its answer was lost) after the channel had accepted it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from embedding_assets.alerts.channels import Channel
from embedding_assets.alerts.message import Message
from embedding_assets.alerts.outbox import Contents, Outbox
from embedding_assets.alerts.pace import PLAIN_AFTER, Turn, take_turn
from embedding_assets.alerts.standing import failing, standing
from embedding_assets.alerts.text import Letter, letter, shortened
from embedding_assets.store import layout

PER_HOUR = 30
KEPT_SECONDS = 30 * 86_400.0
_OTHERS = "somebody else is sending to it"
_PLAIN_CHARS = 900  # the shortest that channels for prose take is 1,000


@dataclass(frozen=True)
class Delivered:
    """What became of one channel's messages.

    Attributes:
        channel: which.
        sent: how many messages it accepted now.
        waiting: how many still wait.
        why: why they wait.
    """

    channel: Channel
    sent: int
    waiting: int
    why: str = ""

    def __str__(self) -> str:
        wait = f"{self.waiting} wait for {self.channel.label}: {self.why}" if self.waiting else ""
        sent = f"{self.sent} sent to {self.channel.label}" if self.sent else ""
        return ", ".join(part for part in (sent, wait) if part)


def deliver(
    outbox: Outbox,
    channels: Sequence[Channel],
    *,
    ui_url: str = "",
    per_hour: int = PER_HOUR,
    budget_seconds: float = 20.0,
    clock: Callable[[], float] = time.time,
) -> list[Delivered]:
    """Give every channel what it has not accepted, as far as its pace allows.

    Args:
        outbox: the messages, and what became of them.
        channels: where to.
        ui_url: address of the Dagster UI, for links.
        per_hour: so many deliveries a channel gets in an hour at most.
        budget_seconds: no delivery is begun after so long; the next call goes on.
        clock: seconds since 1970.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    if not channels:
        return []
    contents = outbox.read()
    until = clock() + budget_seconds
    # Side by side: one that hangs must not hold up the others.
    with ThreadPoolExecutor(len(channels)) as pool:
        return list(
            pool.map(
                lambda channel: _Postman(outbox, contents, channel, channels, ui_url, per_hour, clock).run(until),
                channels,
            )
        )


def waiting_for(contents: Contents, channel: Channel, channels: Sequence[Channel]) -> list[str]:
    """Ids of the messages that a channel is still to be given, the oldest first.

    What was meant for a channel that is no longer there goes to those that are new since: its URL was corrected.
    """
    accepted = contents.accepted_by(channel.id)
    there = {one.id for one in channels}
    found = []
    for message in sorted(contents.messages.values(), key=lambda one: (one.made_at, one.id)):
        orphaned = any(gone not in there and message.id not in contents.accepted_by(gone) for gone in message.channels)
        meant = channel.id in message.channels or orphaned or message.unreadable
        if message.id not in accepted and meant:
            found.append(message.id)
    return found


class _Postman:
    """Delivers to one channel."""

    def __init__(
        self,
        outbox: Outbox,
        contents: Contents,
        channel: Channel,
        channels: Sequence[Channel],
        ui_url: str,
        per_hour: int,
        clock: Callable[[], float],
    ) -> None:
        self._outbox, self._channel, self._clock = outbox, channel, clock
        self._messages, self._ui_url, self._per_hour = contents.messages, ui_url, per_hour
        self._log = list(contents.logs.get(channel.id, ()))
        self._waiting = waiting_for(contents, channel, channels)

    def run(self, until: float) -> Delivered:
        sent = 0
        while True:
            turn = take_turn(self._log, self._waiting, self._clock(), self._per_hour)
            if turn.abandoned is not None:
                if self._give_up():
                    continue
                return Delivered(self._channel, sent, len(self._waiting), _OTHERS)
            if not turn.send:
                return Delivered(self._channel, sent, len(self._waiting), self._words(turn))
            if self._clock() > until:
                return Delivered(self._channel, sent, len(self._waiting), "the next look goes on")
            carried = self._send(turn, turn.send[0])
            if carried is None:
                return Delivered(self._channel, sent, len(self._waiting), _OTHERS)
            if not carried:  # refused: once a look is enough
                return Delivered(self._channel, sent, len(self._waiting), f"it did not accept ({self._log[-1].reason})")
            sent += carried

    def _send(self, turn: Turn, ids: Sequence[str]) -> int | None:
        """Send some messages at once; returns how many were accepted, None where another sender came first."""
        claim = self._outbox.claim(self._channel.id, turn.number, ids, self._clock())
        if claim is None:
            return None
        reason = self._channel.send(self._letter(turn, [self._messages[one] for one in ids]))
        at = self._clock()
        if not self._outbox.end(self._channel.id, claim, accepted=not reason, at=at, reason=reason):
            return None  # it took so long that somebody took this process for dead
        self._log.append(replace(claim, ended_at=at, accepted=not reason, reason=reason))
        if reason:
            return 0
        self._waiting = [one for one in self._waiting if one not in ids]
        return len(ids)

    def _letter(self, turn: Turn, messages: Sequence[Message]) -> Letter:
        if turn.failures < PLAIN_AFTER:
            return letter(messages, self._ui_url, self._channel.form)
        return shortened(letter(messages, self._ui_url, "text"), _PLAIN_CHARS)

    def _give_up(self) -> bool:
        """End a delivery whose sender died, so that its messages wait again; False where it has ended after all."""
        last = self._log[-1]
        reason = "its sender died"
        if not self._outbox.end(self._channel.id, last, accepted=False, at=last.claimed_at, reason=reason):
            return False
        self._log[-1] = replace(last, ended_at=last.claimed_at, accepted=False, reason=reason)
        return True

    def _words(self, turn: Turn) -> str:
        if not turn.wait_until:
            return turn.why
        return f"{turn.why}; tried again in {max(turn.wait_until - self._clock(), 0):.0f} s"


def forget(outbox: Outbox, channels: Sequence[Channel], now: float) -> int:
    """Remove messages that are older than KEPT_SECONDS, were accepted everywhere, and tell of nothing that still fails.

    Returns:
        How many.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    contents = outbox.read()
    before = now - KEPT_SECONDS
    still = {id(change) for change in failing(standing(contents.messages.values()))}
    owed = {one for channel in channels for one in waiting_for(contents, channel, channels)}
    gone = {
        message.id
        for message in contents.messages.values()
        if message.made_at < before
        and message.id not in owed
        and not any(id(change) in still for change in message.changes)
    }
    # A delivery is remembered as long as a message of it is; the last one of a log keeps the numbers going.
    kept = contents.messages.keys() - gone
    entries = [
        (channel, delivery.number)
        for channel, log in contents.logs.items()
        for delivery in log[:-1]
        if delivery.claimed_at < before and not kept & set(delivery.messages)
    ]
    if gone or entries:
        outbox.remove(gone, entries)
    return len(gone)


def send_test(channel: Channel, ui_url: str) -> str:
    """Send a test to a channel; returns why it was not accepted, or nothing."""
    now = layout.now()
    note = Message(
        f"{layout.new_id(now)}-test", "A test: alerts of embedding_assets arrive here", now.timestamp(), (), ()
    )
    return channel.send(letter([note], ui_url, channel.form))
