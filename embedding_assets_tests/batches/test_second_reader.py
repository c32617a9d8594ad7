"""A second process that reads numbers changes nothing but the time, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import simdjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedding_assets.batches import line_reader, second_reader
from embedding_assets.batches.landing_files import land_lines
from embedding_assets.batches.line_reader import LineReader
from embedding_assets.batches.lines import LONGEST_LINE
from embedding_assets.batches.numerals import SHARES, read_numbers, share_rows
from embedding_assets.batches.parse import Answer, LineParser
from embedding_assets.batches.second_reader import SecondReader
from embedding_assets.catalog import CollectionSpec
from embedding_assets_tests.batches.test_parse import NUMBERS, PLACES, SPEC, VALUES, line

MANY = 10**9
WIDE = CollectionSpec(name="lines", model="m", dimensions=8192)  # two vectors to a share


@pytest.fixture(autouse=True)
def _cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_reader, "_cores", lambda: 2)


def ready(second: SecondReader) -> SecondReader:
    deadline = time.monotonic() + 60
    while not second.has_room():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return second


@pytest.fixture(scope="module")
def second() -> Iterator[SecondReader]:
    second = ready(SecondReader(SPEC.dimensions))
    yield second
    assert second.pid is not None  # nothing that it was given ended it
    second.close()


def told(answers: list[tuple[int, Answer]]) -> list[Any]:
    """Answers in a form that can be compared, vectors bit by bit."""
    return [
        (number, answer._replace(vector=None), None if answer.vector is None else answer.vector.tobytes())
        for number, answer in answers
    ]


def alone(lines: list[bytes], spec: Any = SPEC) -> list[Any]:
    parser = LineParser(spec)
    with np.errstate(over="ignore", invalid="ignore"):
        return told([(number, parser.parse(raw)) for number, raw in enumerate(lines)])


def wide_lines(count: int) -> list[bytes]:
    rng = np.random.default_rng(1)
    return [
        orjson.dumps(line(f"{i}", rng.standard_normal(WIDE.dimensions if i % 7 else 5).round(9).tolist()))
        for i in range(count)
    ]


@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3) | st.lists(NUMBERS, max_size=4), min_size=1, max_size=9))
def test_numbers_in_any_notation_are_read_alike_by_both_processes(second: SecondReader, rows: list[list[str]]) -> None:
    texts = ["[" + ", ".join(row).replace("[1]", "[1") + "]" for row in rows]  # up to the first bracket
    share = second.put([memoryview(text.encode()) for text in texts])
    assert share is not None
    with np.errstate(over="ignore", invalid="ignore"):
        found = second.take(share, len(texts))
        for text, vector in zip(texts, found, strict=True):
            doubles = read_numbers(simdjson.Parser(), text.encode())
            if doubles is None or len(doubles) != 8 * SPEC.dimensions:
                assert vector is None
            else:
                assert vector is not None
                assert vector.tobytes() == np.frombuffer(doubles, np.float64).astype(np.float32).tobytes()
                assert vector.tobytes() == np.array(orjson.loads(text), np.float64).astype(np.float32).tobytes()


@given(st.lists(st.tuples(VALUES, st.sampled_from(PLACES), st.integers(0, 30)), max_size=12))
def test_lines_of_every_kind_are_answered_as_by_one_process(
    second: SecondReader, drawn: list[tuple[str, str, int]]
) -> None:
    lines = [place.replace("@", value).encode() for value, place, _ in drawn]
    lines = [raw[:-short] if short > 20 else raw for raw, (*_, short) in zip(lines, drawn, strict=True)]
    reader = LineReader(SPEC)
    reader.second = second
    with np.errstate(over="ignore", invalid="ignore"):
        assert told(list(reader.answers(enumerate(lines)))) == alone(lines)


def test_lines_keep_their_order_through_many_shares() -> None:
    lines = [*wide_lines(40), b"", b"{", orjson.dumps(line("x")), *wide_lines(40)]
    with LineReader(WIDE, MANY) as reader, np.errstate(over="ignore"):
        numbered = iter(enumerate(lines))
        found = [next(answers := reader.answers(numbered))]
        assert reader.second is not None
        ready(reader.second)
        found += answers
        assert reader.second.pid is not None
    assert told(found) == alone(lines, WIDE)


def test_vectors_that_were_given_do_not_change_when_more_is_read() -> None:
    second = ready(SecondReader(2))
    kept = []
    for i in range(3 * SHARES):
        share = second.put([memoryview(b"[%d, 0.5]" % i)])
        assert share is not None
        kept += second.take(share, 1)
    second.close()
    assert [vector.tolist() for vector in kept if vector is not None] == [[i, 0.5] for i in range(3 * SHARES)]


@pytest.mark.parametrize("moment", [2, 3, 9, 10, 11, 30])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_second_process_that_dies_or_hangs_costs_no_line(
    monkeypatch: pytest.MonkeyPatch, moment: int, how: signal.Signals
) -> None:
    monkeypatch.setattr(second_reader, "_PATIENCE", 0.2)
    lines = wide_lines(40)

    def numbered(reader: LineReader) -> Iterator[tuple[int, bytes]]:
        for number, raw in enumerate(lines):
            if number == 4 < moment and reader.second is not None:
                ready(reader.second)
            if number == moment and reader.second is not None and reader.second.pid is not None:
                os.kill(reader.second.pid, how)
            yield number, raw

    with LineReader(WIDE, MANY) as reader, np.errstate(over="ignore"):
        assert told(list(reader.answers(numbered(reader)))) == alone(lines, WIDE)
        assert reader.second is not None
        assert reader.second.pid is None or moment < 4 or how == signal.SIGSTOP


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false", "/bin/true"])
def test_a_second_process_that_cannot_be_started_costs_no_line(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(sys, "executable", program)
    lines = wide_lines(12)
    with LineReader(WIDE, MANY) as reader, np.errstate(over="ignore"):
        assert told(list(reader.answers(enumerate(lines)))) == alone(lines, WIDE)


def test_few_lines_or_a_single_core_or_base64_need_no_second_process(monkeypatch: pytest.MonkeyPatch) -> None:
    floats, base64 = [orjson.dumps(line(embedding=[0.5, -1.0, 2.0]))], [orjson.dumps(line())]

    def started(lines: list[bytes], expected: int) -> bool:
        with LineReader(SPEC, expected) as reader:
            assert [answer.code for _, answer in reader.answers(enumerate(lines))] == ["accepted"] * len(lines)
            return reader.second is not None

    assert started(floats, MANY)
    assert not started(floats, 1000)
    assert not started(base64, MANY)
    monkeypatch.setattr(line_reader, "_cores", lambda: 1)
    assert not started(floats, MANY)


def test_the_second_process_ends_with_the_reader_and_when_reading_fails() -> None:
    pids = []

    def broken() -> Iterator[tuple[int, bytes]]:
        yield from enumerate(wide_lines(3))
        assert reader.second is not None
        pids.append(reader.second.pid)
        raise OSError("the line went dead")

    reader = LineReader(WIDE, MANY)
    with pytest.raises(OSError, match="went dead"), reader:
        list(reader.answers(broken()))
    assert pids
    assert pids[0] is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_the_second_process_sees_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden")
    second = ready(SecondReader(3))
    seen = Path(f"/proc/{second.pid}/environ").read_bytes()
    second.close()
    assert b"PYTHONPATH" in seen
    assert b"sk-hidden" not in seen


def test_long_lines_are_not_gathered_in_memory() -> None:
    held = 0

    def numbered() -> Iterator[tuple[int, bytes]]:
        nonlocal held
        for number in range(30):
            held += 1
            yield number, b'{"embedding":[' + b" " * (LONGEST_LINE // 8)

    assert share_rows(SPEC.dimensions) > 1000
    with LineReader(SPEC, MANY) as reader:
        for _, answer in reader.answers(numbered()):
            held -= 1
            assert answer.code == "bad_json"
            assert held <= 2 * SHARES + 2


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(30)))
def test_a_landing_is_the_same_with_a_second_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: list[int]
) -> None:
    lines = wide_lines(30)
    data = b"\n".join([*(lines[i] for i in order), *(lines[i][:-9] for i in order[:3])])
    requested = {f"{i}": (f"text {i}", f'{{"n":{i}}}') for i in range(32)}
    landings = []
    for worth in (MANY, 1):
        monkeypatch.setattr(line_reader, "_WORTH_IT", worth)
        landed = land_lines(WIDE, requested, {"output": [data]}, tmp_path)
        landings.append((landed.outcome("completed"), landed.remarks, landed.files.records.read_bytes()))
    assert landings[0] == landings[1]
