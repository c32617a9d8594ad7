"""When something is tried again: a table of pasts."""

from __future__ import annotations

import pytest

from embedding_assets.pipeline.attempts import ATTEMPTS, PastRun, next_attempt, pause

NOW = 1_000_000.0
MINUTE, HOUR = 60.0, 3600.0


def failed(ago: float, state: str | None = "s") -> PastRun:
    return PastRun(state, NOW - ago)


def succeeded(ago: float, state: str | None = "s") -> PastRun:
    return PastRun(state, NOW - ago, True)


def cancelled(ago: float, state: str | None = "s") -> PastRun:
    return PastRun(state, NOW - ago, cancelled=True)


def under_way(state: str | None = "s") -> PastRun:
    return PastRun(state, None)


BY_HAND = None
HOPELESS = [failed(HOUR * (n + 1)) for n in range(ATTEMPTS)]


@pytest.mark.parametrize(
    ("past", "kind", "number", "due_in"),
    [
        pytest.param([], "now", 1, 0, id="nothing was ever run"),
        pytest.param([under_way()], "under way", 1, 0, id="a run for it is queued or under way"),
        pytest.param([under_way("other")], "under way", 1, 0, id="so is one for what there was to do before"),
        pytest.param([under_way(BY_HAND), *HOPELESS], "under way", 1, 0, id="or one by hand"),
        pytest.param([succeeded(1, "other")], "now", 1, 0, id="the last run did what there was to do then"),
        pytest.param([failed(10)], "later", 2, 50, id="it failed just now"),
        pytest.param([failed(70)], "now", 2, 0, id="it failed a while ago"),
        pytest.param([failed(70), failed(200)], "later", 3, 4 * MINUTE - 70, id="the second pause is longer"),
        pytest.param([failed(10, "other")], "later", 1, 50, id="another state failed just now"),
        pytest.param(
            [failed(10, str(n)) for n in range(9)], "later", 1, HOUR - 10, id="states that change and always fail"
        ),
        pytest.param(HOPELESS[1:], "now", ATTEMPTS, 0, id="the last attempt"),
        pytest.param(HOPELESS, "later", ATTEMPTS + 1, 11 * HOUR, id="hopeless: tried now and then"),
        pytest.param(
            [failed(2 * HOUR, "other"), *HOPELESS],
            "later",
            ATTEMPTS + 1,
            10 * HOUR,
            id="a state that was hopeless is back",
        ),
        pytest.param(
            [failed(2 * HOUR, "other")] * ATTEMPTS, "now", 1, 0, id="another state was hopeless: the new one is tried"
        ),
        pytest.param([succeeded(2 * HOUR, BY_HAND), *HOPELESS], "now", 1, 0, id="somebody launched it by hand"),
        pytest.param([failed(70, BY_HAND), *HOPELESS], "now", 1, 0, id="which failed, too: attempts count anew"),
        pytest.param([failed(10, BY_HAND)], "later", 1, 50, id="but not at once"),
        pytest.param([failed(10), failed(900, BY_HAND), *HOPELESS], "later", 2, 50, id="and grow anew"),
        pytest.param([succeeded(10)], "later", 1, 50, id="it succeeded, and the state is as before"),
        pytest.param([cancelled(10)], "later", 1, HOUR - 10, id="somebody cancelled it: not at once"),
        pytest.param([cancelled(HOUR)], "now", 1, 0, id="but in the end"),
        pytest.param([cancelled(10, "other")], "now", 1, 0, id="there is news since somebody cancelled it"),
        pytest.param([cancelled(10, BY_HAND)], "later", 1, HOUR - 10, id="somebody's own run was cancelled"),
        pytest.param([cancelled(HOUR)] * 9, "now", 1, 0, id="to cancel is no attempt"),
        pytest.param([cancelled(HOUR), *HOPELESS], "later", ATTEMPTS + 1, 11 * HOUR, id="nor does it begin anew"),
        pytest.param([failed(13 * HOUR)] * 9, "now", 10, 0, id="an outage of a day goes by"),
        pytest.param([succeeded(HOUR)] * 30, "now", 1, 0, id="which is never hopeless"),
    ],
)
def test_the_next_attempt(past: list[PastRun], kind: str, number: int, due_in: float) -> None:
    attempt = next_attempt("s", past, NOW)
    assert attempt.kind == kind
    if kind != "under way":
        assert attempt.number == number
    if kind == "later":
        assert attempt.at - NOW == due_in
        later = next_attempt("s", past, attempt.at)
        assert (later.kind, later.number) == ("now", number)
    assert attempt.last == (attempt.number >= ATTEMPTS)


@pytest.mark.parametrize(
    ("past", "kind"),
    [
        ([], "now"),
        ([under_way()], "under way"),
        ([succeeded(9 * HOUR)], "done"),
        ([failed(HOUR, "other"), succeeded(9 * HOUR)], "done"),
        ([succeeded(HOUR, "other")], "now"),
        ([failed(10)], "later"),
        ([failed(HOUR)], "now"),
    ],
)
def test_what_a_run_can_only_tell_of_needs_one_that_ended_well(past: list[PastRun], kind: str) -> None:
    assert next_attempt("s", past, NOW, once=True).kind == kind


def test_pauses_grow_up_to_an_hour() -> None:
    assert [pause(n) / MINUTE for n in range(1, 7)] == [1, 4, 16, 60, 60, 60]
