"""Lines of results: damage of every kind is named, and what is good is found among it."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_assets.batches.landing_files import land_lines
from embedding_assets.batches.lines import LONGEST_LINE, lines_of, pieces_of
from embedding_assets.batches.parse import Answer, LineParser, place_of
from embedding_assets.catalog import CollectionSpec
from embedding_assets.records import ContentDigest, RecordBatch

SPEC = CollectionSpec(name="lines", model="m", dimensions=3, model_answers_as=("vendor/embedder-v2",))
VECTOR = np.array([0.5, -1.0, 2.0], dtype=np.float32)


def parse_line(raw: bytes, spec: CollectionSpec = SPEC) -> Answer:
    with np.errstate(over="ignore", invalid="ignore"):
        return LineParser(spec).parse(raw)


def packed(values: Any) -> str:
    return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()


def line(record_id: Any = "a", embedding: Any = None, **changes: Any) -> dict[str, Any]:
    body = {
        "object": "list",
        "model": "m",
        "data": [{"index": 0, "embedding": packed(VECTOR) if embedding is None else embedding}],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
        **changes.pop("body", {}),
    }
    response = {"status_code": 200, "body": body, **changes.pop("response", {})}
    return {"id": "r", "custom_id": record_id, "response": response, "error": None, **changes}


GOOD = {
    "base64": line(),
    "floats": line(embedding=[0.5, -1.0, 2.0]),
    "integers among floats": line(embedding=[0.5, -1, 2]),
    "body as a string": line(response={"body": json.dumps(line()["response"]["body"])}),
    "dated name of the model": line(body={"model": "m-v2"}),
    "no model": line(body={"model": None}),
    "status as text": line(response={"status_code": "200"}),
    "status as a fraction": line(response={"status_code": 200.0}),
    "a further name of the model": line(body={"model": "vendor/embedder-v2"}),
    "no usage": line(body={"usage": None}),
    "no error key": {k: v for k, v in line().items() if k != "error"},
}


@pytest.mark.parametrize("name", GOOD)
def test_good_lines_of_every_form(name: str) -> None:
    answer = parse_line(orjson.dumps(GOOD[name]))
    assert answer.code == "accepted"
    np.testing.assert_array_equal(answer.vector, VECTOR)  # type: ignore[arg-type]


REFUSED = {"error": {"code": "context_length_exceeded", "message": "too long"}}

# (line, code, whether asking again may help)
BAD: list[tuple[Any, str, bool]] = [
    (b"", "bad_json", True),
    (b"{", "bad_json", True),
    (b"\xff\x00", "bad_json", True),
    (b"[]", "bad_json", True),
    (b"[" * 100_000, "bad_json", True),
    (line(None), "no_custom_id", True),
    ({"custom_id": "a"}, "no_response", True),
    ({"custom_id": "a", "response": "x"}, "no_response", True),
    (
        {"custom_id": "a", "response": None, "error": {"code": "batch_expired", "message": "late"}},
        "batch_expired",
        True,
    ),
    ({"custom_id": "a", "response": None, "error": {"code": "batch_cancelled"}}, "batch_cancelled", True),
    ({"custom_id": "a", "response": None, "error": "odd"}, "error", True),
    (line(response={"status_code": 400, "body": REFUSED}), "context_length_exceeded", False),
    (line(response={"status_code": 400, "body": json.dumps(REFUSED)}), "context_length_exceeded", False),
    (line(response={"status_code": 404, "body": None}), "http_404", False),
    (line(response={"status_code": 413, "body": "too large"}), "http_413", False),
    (line(response={"status_code": 429, "body": {}}), "http_429", True),
    (line(response={"status_code": 500, "body": {}}), "http_500", True),
    (line(response={"status_code": 503, "body": "down"}), "http_503", True),
    (line(response={"status_code": None}), "error", True),
    (line(response={"status_code": True}), "error", True),
    (line(response={"status_code": "400", "body": {}}), "http_400", False),
    (line(response={"status_code": "429", "body": {}}), "http_429", True),
    (
        line(response={"status_code": 429, "body": {"error": {"type": "insufficient_quota"}}}),
        "insufficient_quota",
        True,
    ),
    (line(response={"status_code": 429, "body": {"error": {"code": "odd"}}}), "http_429", True),
    (
        line(response={"status_code": 403, "body": {"error": {"code": "billing_hard_limit_reached"}}}),
        "billing_hard_limit_reached",
        True,
    ),
    (
        line(response={"status_code": 400, "body": {"error": {"code": "billing_hard_limit_reached"}}}),
        "billing_hard_limit_reached",
        True,
    ),
    ({"custom_id": "a", "response": None, "error": {"code": "400", "message": "odd"}}, "http_400", False),
    ({"custom_id": "a", "response": None, "error": {"code": 503}}, "http_503", True),
    ({"custom_id": "a", "response": None, "error": {"type": "invalid_request_error"}}, "error", False),
    (
        {"custom_id": "a", "response": None, "error": {"code": "content_policy_violation"}},
        "content_policy_violation",
        False,
    ),
    (line(response={"body": None}), "no_body", True),
    (line(response={"body": REFUSED}), "context_length_exceeded", False),
    (line(body={"model": "other"}), "wrong_model", False),
    (line(body={"data": []}), "no_embedding", True),
    (line(body={"data": None}), "no_embedding", True),
    (line(body={"data": [1]}), "no_embedding", True),
    (line(body={"data": [{"embedding": packed(VECTOR)}] * 2}), "no_embedding", True),
    (line(embedding=""), "wrong_dimension", True),
    (line(embedding="%%%"), "no_embedding", True),
    (line(embedding=base64.b64encode(b"12345").decode()), "no_embedding", True),
    (line(embedding=packed([1.0, 2.0])), "wrong_dimension", True),
    (line(embedding=[1.0] * 4), "wrong_dimension", True),
    (line(embedding=[[1.0, 2.0, 3.0]]), "wrong_dimension", True),
    (line(embedding=[1.0, "x", 2.0]), "no_embedding", True),
    (line(embedding=[1.0, None, 2.0]), "not_finite", True),
    (line(embedding=[1.0, 1e39, 2.0]), "not_finite", True),
    (line(embedding=packed([1.0, np.nan, 2.0])), "not_finite", True),
    (line(embedding=packed([1.0, np.inf, 2.0])), "not_finite", True),
    (json.dumps(line(embedding=[1.0, float("nan"), 2.0])).encode(), "not_finite", True),
    (line(embedding=packed([0.0, 0.0, -0.0])), "zero_vector", True),
]


@pytest.mark.parametrize(("raw", "code", "retryable"), BAD, ids=[f"{i}-{row[1]}" for i, row in enumerate(BAD)])
def test_damage_is_named(raw: Any, code: str, retryable: bool) -> None:
    answer = parse_line(raw if isinstance(raw, bytes) else orjson.dumps(raw))
    assert (answer.code, answer.retryable, answer.vector) == (code, retryable, None)
    assert answer.reason


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(raw: bytes) -> None:
    parse_line(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*line(), "body"]), inner),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["response", "body", "data", "embedding", "error", "status_code"]))
def test_no_json_makes_it_fail(value: Any, where: str) -> None:
    raw = line()
    place = {"response": raw, "error": raw, "body": raw["response"], "status_code": raw["response"]}
    target = place.get(where) or (raw["response"]["body"] if where == "data" else raw["response"]["body"]["data"][0])
    target[where] = value
    parse_line(json.dumps(raw).encode())


NUMBERS = st.one_of(
    st.floats(width=32).filter(np.isfinite).map(lambda x: str(np.float32(x))),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["-0", "-0.0", "0", "1e39", "1E-400", "1e400", "0.1e+1", "9007199254740993", "01", "1.", "NaN"]),
    st.sampled_from(["null", "true", '"x"', '"]"', "[1]", "{}", ""]),
)
VALUES = st.one_of(
    st.lists(st.floats(width=32), min_size=3, max_size=3).map(lambda x: f'"{packed(x)}"'),
    st.lists(NUMBERS, min_size=3, max_size=3).map(lambda x: "[" + ", ".join(x) + "]"),
    st.lists(NUMBERS, max_size=4).map(lambda x: "[" + ",".join(x) + "]"),
    st.text("AB+/=_ \\n-", max_size=18).map(lambda x: f'"{x}"'),
    st.sampled_from(["null", "[", '"', "[]", "7", '"' + "A" * 15 + '="', '"AAA=AAAAAAAAAAAA"', '"\\/+AAAAAAAAAAAAAA"']),
)
PLACES = [
    '{"custom_id":"a","response":{"status_code":200,"body":{"data":[{"embedding":@}],"model":"m"}}}',
    '{"custom_id": "a", "response": {"status_code": 200, "body": {"data": [{"embedding": @}]}}, "error": null}',
    '{"custom_id": "a", "response": {"status_code": 200, "body": {"data": [{"embedding"  :  @}]}}}',
    '{"custom_id":"a","response":{"status_code":200,"body":{"data":[{"embedding":@,"embedding":[1,2,3]}]}}}',
    '{"custom_id":"a","response":{"status_code":200,"body":{"data":[{"embedding":[1,2,3],"embedding":@}]}}}',
    '{"custom_id":"a","response":{"status_code":200,"body":{"usage":{"embedding":@},"data":[{"embedding":[1,2,3]}]}}}',
    '{"custom_id":"a","response":{"status_code":200,"body":{"data":[{"embedding":[1,2,3]}]},"embedding":@}}',
    '{"custom_id":"a","error":[{"embedding":@}]}',
    '{"custom_id":"a","response":{"status_code":500,"body":{"data":[{"embedding":@}]}}}',
    '{"custom_id":"\\"embedding\\":@","response":{"status_code":200,"body":{"data":[{"embedding":[1,2,3]}]}}}',
    '{"custom_id":"a"x"embedding":@,"response":{"status_code":200,"body":{"data":[{"embedding":[1,2,3]}]}}}',
    '{"custom_id":"a","response":{"status_code":200,"body":{"data":[{"embedding":@',
]


@given(VALUES, st.sampled_from(PLACES))
def test_numbers_that_are_cut_out_are_those_that_json_gives(value: str, place: str) -> None:
    raw = place.replace("@", value).encode()
    parser = LineParser(SPEC)
    with np.errstate(over="ignore", invalid="ignore"):
        found, plain = parser.parse(raw), parser._read(raw, None)
    assert found._replace(vector=None) == plain._replace(vector=None)
    assert (found.vector is None) == (plain.vector is None)
    if found.vector is not None and plain.vector is not None:
        assert found.vector.tobytes() == plain.vector.tobytes()


def test_usual_lines_of_both_forms_are_not_read_as_json_as_a_whole() -> None:
    for raw in (orjson.dumps(GOOD["base64"]), json.dumps(GOOD["floats"]).encode()):
        rest, vector = LineParser(SPEC)._cut(raw, place_of(raw), None)
        assert vector is not None
        assert len(rest) < len(raw) + 40
        assert b"-1.0" not in rest


@given(st.lists(st.binary(max_size=6).map(lambda raw: raw.replace(b"\x01", b"\n")), max_size=12), st.integers(1, 9))
def test_lines_are_the_same_in_pieces_of_any_size(parts: list[bytes], size: int) -> None:
    data = b"\n".join(parts)
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    assert list(lines_of(pieces)) == [(n, raw) for n, raw in enumerate(data.split(b"\n"), 1) if raw.strip()]


def test_a_line_without_an_end_is_not_held_in_memory() -> None:
    found = list(lines_of([b"a\n", *[b"x" * (LONGEST_LINE // 2)] * 5, b"\nb\n", b"c"]))
    assert [(number, len(raw)) for number, raw in found] == [(1, 1), (2, LONGEST_LINE), (3, 1), (4, 1)]


def test_two_lines_with_different_vectors_for_one_record_give_none(tmp_path: Path) -> None:
    requested = {i: (f"text {i}", "{}") for i in "abcd"}
    told = [
        ("a", [1, 0, 0]),
        ("b", [0, 1, 0]),
        ("c", [0, 0, 1]),
        ("a", [0, 1, 0]),
        ("b", [1e-4, 1, 0]),
        ("c", [0, 0, 1]),
    ]
    lines = b"".join(orjson.dumps(line(i, [float(x) for x in vector])) + b"\n" for i, vector in told)
    landed = land_lines(SPEC, requested, {"output": [lines]}, tmp_path)
    records = RecordBatch.from_arrow(pq.read_table(landed.files.records))
    assert sorted(records.ids) == ["b", "c"]
    assert landed.digest == ContentDigest().add(records).hex()
    assert landed.accepted == {"b", "c"}
    assert (landed.rejected["a"].code, landed.rejected["a"].retryable) == ("ambiguous", True)
    assert (landed.repeated, landed.missing) == (3, 1)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "accepted.parquet",
        "records.parquet",
        "rejected.parquet",
    ]


def _vector(i: int) -> list[float]:
    return [float(i + 1), 0.25, -1.0]


@given(
    st.lists(st.tuples(st.integers(0, 11), st.sampled_from(["good", "good", "nan", "refused", "broken"])), max_size=40),
    st.integers(1, 8),
)
def test_shuffled_repeated_and_bad_lines_keep_the_books(told: list[tuple[int, str]], asked: int) -> None:
    requested = {str(i): (f"text {i}", f'{{"n":{i}}}') for i in range(asked)}
    lines = []
    for i, kind in told:
        raw = orjson.dumps(line(str(i), _vector(i)))
        if kind == "nan":
            raw = orjson.dumps(line(str(i), packed([np.nan] * 3)))
        elif kind == "refused":
            raw = orjson.dumps(line(str(i), response={"status_code": 500, "body": {}}))
        elif kind == "broken":
            raw = raw[:-20]
        lines.append(raw)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        half = len(lines) // 2
        (folder / "output.jsonl").write_bytes(b"\n".join(lines[:half]))
        (folder / "error.jsonl").write_bytes(b"\n".join(lines[half:]))
        names = ["output", "error"]
        landed, turned = (
            land_lines(SPEC, requested, {n: pieces_of(folder / f"{n}.jsonl") for n in order}, folder / order[0])
            for order in (names, names[::-1])
        )
        records = RecordBatch.from_arrow(pq.read_table(landed.files.records))
        rejected = pq.read_table(landed.files.rejected).column("id").to_pylist()
        accepted = pq.read_table(landed.files.accepted).column("id").to_pylist()
    good = {str(i) for i, kind in told if kind == "good" and i < asked}
    bad = {str(i) for i, kind in told if kind in ("nan", "refused") and i < asked} - good
    assert landed.accepted == set(records.ids) == set(accepted) == good
    assert set(rejected) == bad
    assert len(good) + len(bad) + landed.missing == asked
    for i, record_id in enumerate(records.ids):
        assert records.embeddings[i].tolist() == _vector(int(record_id))
        assert records.documents[i] == f"text {record_id}"
        assert records.metadatas[i] == {"n": int(record_id)}
    assert (landed.digest, landed.stray) == (turned.digest, turned.stray)
