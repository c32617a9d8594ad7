"""What is news, given what was told."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from embedding_assets.alerts.message import Change
from embedding_assets.alerts.standing import failing, news, standing
from embedding_assets_tests.alerts.making import change, message


def told(*observed: Change) -> list[tuple[float, bool]]:
    return [(one.at, one.failed) for one in news({}, observed)]


def test_a_failure_is_news_once_and_so_is_its_recovery() -> None:
    assert told(change(1), change(2), change(3, failed=False), change(4, failed=False), change(5)) == [
        (1, True),
        (3, False),
        (5, True),
    ]


def test_a_success_that_follows_no_failure_is_no_news() -> None:
    assert told(change(1, failed=False), change(2, failed=False)) == []


def test_what_is_worse_than_was_told_is_news() -> None:
    found = news({}, [change(1, severity="WARN"), change(2), change(3, severity="WARN"), change(4, severity="STOPPED")])
    assert [(one.at, one.severity) for one in found] == [(1, "WARN"), (2, "ERROR"), (4, "STOPPED")]
    (recovery,) = news(standing([message(1, *found)]), [change(9, failed=False)])
    assert (recovery.since, recovery.severity) == (1, "STOPPED")


def test_partitions_checks_and_assets_stand_for_themselves() -> None:
    observed = [change(1), change(1, partition="words|2026-11-03"), change(1, asset="snapshots"), change(1, name="x")]
    assert len(news({}, observed)) == 4
    known = standing([message(1, *observed)])
    assert len(failing(known)) == 4
    assert [one.partition for one in news(known, [change(2, failed=False)])] == ["lines|2026-11-03"]


def test_looking_again_at_what_was_told_is_no_news_in_whatever_order() -> None:
    history = [change(1), change(2, failed=False), change(3), change(4, failed=False)]
    known = standing([message(1, *history)])
    for order in permutations(history):
        assert news(known, order) == []


@given(st.lists(st.booleans(), max_size=12), st.integers(0, 12))
def test_wherever_a_look_is_cut_off_the_next_one_tells_the_rest_and_nothing_twice(
    outcomes: list[bool], cut: int
) -> None:
    history = [change(float(at), failed=failed) for at, failed in enumerate(outcomes)]
    at_once = news({}, history)
    first = news({}, history[:cut])
    then = news(standing([message(1, *first)] if first else []), history)
    assert [(one.at, one.failed) for one in first + then] == [(one.at, one.failed) for one in at_once]
