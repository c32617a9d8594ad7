"""When a channel is tried and what it is given at once."""

from __future__ import annotations

import pytest

from embedding_assets.alerts.outbox import Delivery
from embedding_assets.alerts.pace import CLAIM_SECONDS, HOUR, pause, take_turn
from embedding_assets_tests.alerts.making import NOW


def accepted(number: int, ago: float) -> Delivery:
    return Delivery(number, (f"sent-{number}",), NOW - ago, NOW - ago, True)


def refused(number: int, ago: float) -> Delivery:
    return Delivery(number, ("a",), NOW - ago, NOW - ago, False, "it is down")


def test_what_waits_goes_one_by_one() -> None:
    turn = take_turn([], ["a", "b"], NOW, 20)
    assert (turn.send, turn.number) == ((("a",), ("b",)), 0)
    assert take_turn([accepted(4, 100)], ["a"], NOW, 20).number == 5
    assert take_turn([accepted(4, 100)], [], NOW, 20).send == ()


def test_a_storm_is_one_summary() -> None:
    waiting = [str(n) for n in range(200)]
    assert take_turn([], waiting, NOW, 20).send == (tuple(waiting),)


def test_nobody_else_sends_while_a_delivery_is_under_way_and_a_dead_sender_is_given_up() -> None:
    log = [Delivery(0, ("a",), NOW)]
    turn = take_turn(log, ["a"], NOW + CLAIM_SECONDS - 1, 20)
    assert (turn.send, turn.abandoned, turn.wait_until) == ((), None, NOW + CLAIM_SECONDS)
    turn = take_turn(log, ["a"], NOW + CLAIM_SECONDS, 20)
    assert (turn.send, turn.abandoned) == ((), 0)


def test_a_channel_that_is_down_is_tried_after_growing_pauses_and_never_given_up() -> None:
    log = [refused(0, 10)]
    turn = take_turn(log, ["a"], NOW, 20)
    assert (turn.send, turn.wait_until, turn.why) == ((), NOW + 10, "it does not accept (it is down)")
    assert take_turn(log, ["a", "b"], NOW + 10, 20).send == (("a",),)
    many = [refused(n, 2000 - n) for n in range(200)]
    assert take_turn(many, ["a"], NOW, 20).send == (("a",),)
    assert [pause(n) for n in (1, 2, 3, 7, 8, 1000)] == [20, 40, 80, 1280, 1800, 1800]


def test_a_message_that_is_refused_again_and_again_does_not_hold_up_the_others() -> None:
    log = [refused(n, 200 - n) for n in range(3)]
    assert take_turn(log, ["a", "b"], NOW, 20).send == (("a", "b"),)


@pytest.mark.parametrize("per_hour", [2, 3, 20, 31])
def test_never_more_than_so_many_an_hour_and_nothing_waits_long(per_hour: int) -> None:
    log: list[Delivery] = []
    waiting: list[str] = []
    waited: dict[str, float] = {}
    longest = 0.0
    for second in range(0, int(4 * HOUR), 20):  # a message every 20 seconds for four hours
        now = NOW + second
        waiting.append(str(second))
        waited[str(second)] = now
        turn = take_turn(log, waiting, now, per_hour)
        for send in turn.send:
            log.append(Delivery(len(log), send, now, now, True))
            longest = max(longest, *(now - waited[one] for one in send))
            waiting = [one for one in waiting if one not in send]
    times = [one.claimed_at for one in log]
    assert max(sum(start <= t < start + HOUR for t in times) for start in times) <= per_hour
    assert longest <= HOUR / (per_hour // 2) + 20
    assert not waiting or waited[waiting[0]] > NOW + 4 * HOUR - HOUR / (per_hour // 2) - 20
