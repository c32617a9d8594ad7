"""Every way in which a batch can be told to go wrong."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import openai
import pytest

from embedding_assets.sandbox import BatchFault, LineFault, Sandbox, SandboxError
from embedding_assets_tests.sandbox.asking import (
    as_file,
    client,
    content,
    ids,
    line,
    lines,
    raw,
    results,
    run,
    submit,
    wait,
    wait_for,
)

pytestmark = pytest.mark.service


def test_a_late_batch_stays_in_progress(sandbox: Sandbox) -> None:
    sandbox.set_fault(BatchFault(seconds=3600))
    api = client(sandbox)
    late, prompt = submit(api, as_file(lines(2))), submit(api, as_file(lines(2)))
    assert wait(api, prompt.id).status == "completed"
    assert wait_for(api, late.id, lambda batch: batch.status == "in_progress").completed_at is None


def test_a_batch_that_takes_a_moment_completes(sandbox: Sandbox) -> None:
    sandbox.set_fault(BatchFault(seconds=0.3))
    assert run(sandbox, lines(2)).status == "completed"


def test_a_failed_batch_says_why(sandbox: Sandbox) -> None:
    sandbox.set_fault(BatchFault(outcome="failed", code="token_limit_exceeded", message="later"))
    batch = run(sandbox, lines(2))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(error.code, error.message) for error in batch.errors.data or []] == [("token_limit_exceeded", "later")]
    assert (batch.output_file_id, batch.error_file_id) == (None, None)


@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
@pytest.mark.parametrize(("finished", "expected"), [(None, 5), (0, 0), (7, 7), (10, 10)])
def test_a_batch_cut_short_accounts_for_every_request(
    sandbox: Sandbox, outcome: Any, finished: int | None, expected: int
) -> None:
    sandbox.set_fault(BatchFault(outcome=outcome, finished=finished))
    batch = run(sandbox, lines(10))
    assert batch.status == outcome
    done, rest = results(sandbox, batch.output_file_id), results(sandbox, batch.error_file_id)
    assert sorted(ids(done)) == ids(lines(expected))
    assert sorted(ids(rest)) == ids(lines(10))[expected:]
    assert all(error["error"]["code"] == f"batch_{outcome}" and error["response"] is None for error in rest)
    assert (batch.output_file_id is None) is (expected == 0)
    assert (batch.error_file_id is None) is (expected == 10)


def test_a_partial_batch_completes_with_failed_requests(sandbox: Sandbox) -> None:
    sandbox.set_fault(BatchFault(finished=4))
    batch = run(sandbox, lines(6))
    assert batch.status == "completed"
    assert sorted(ids(results(sandbox, batch.output_file_id))) == ids(lines(4))
    assert [error["response"]["status_code"] for error in results(sandbox, batch.error_file_id)] == [500, 500]
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (4, 2)


def test_order_can_be_kept(sandbox: Sandbox) -> None:
    sandbox.set_fault(BatchFault(shuffle=False))
    batch = run(sandbox, lines(20))
    assert ids(results(sandbox, batch.output_file_id)) == ids(lines(20))


def test_another_seed_is_another_order(sandbox: Sandbox) -> None:
    orders = []
    for seed in (1, 2):
        sandbox.set_fault(BatchFault(seed=seed))
        orders.append(ids(results(sandbox, run(sandbox, lines(20)).output_file_id)))
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


@pytest.mark.parametrize("which", ["output_file", "error_file"])
@pytest.mark.parametrize("damage", ["empty", "missing", "gone"])
def test_files_that_are_not_what_they_should_be(sandbox: Sandbox, which: str, damage: str) -> None:
    sandbox.set_fault(BatchFault(**{which: damage}))  # type: ignore[arg-type]
    batch = run(sandbox, [line("good", "MILK"), line("bad", "")])
    file_id = getattr(batch, which + "_id")
    assert batch.status == "completed"
    if damage == "missing":
        assert file_id is None
    elif damage == "empty":
        assert content(sandbox, file_id) == b""
    else:
        assert client(sandbox).files.retrieve(file_id).id == file_id
        with pytest.raises(openai.NotFoundError):
            content(sandbox, file_id)


def test_an_error_file_without_an_error(sandbox: Sandbox) -> None:
    sandbox.set_fault(BatchFault(error_file="empty"))
    batch = run(sandbox, lines(1))
    assert batch.error_file_id is not None
    assert content(sandbox, batch.error_file_id) == b""


def test_a_status_nobody_knows(sandbox: Sandbox) -> None:
    sandbox.set_fault(BatchFault(status="scheduling", seconds=3600, finished=0))
    api = client(sandbox)
    batch = submit(api, as_file(lines(1)))
    with raw(sandbox) as http:
        assert http.get(f"/batches/{batch.id}").json()["status"] == "scheduling"
    wait_for(api, batch.id, lambda each: each.in_progress_at is not None)
    api.batches.cancel(batch.id)
    assert wait(api, batch.id).status == "cancelled"


def test_an_id_without_its_prefix(sandbox: Sandbox) -> None:
    sandbox.set_fault(BatchFault(bare_id=True))
    batch = run(sandbox, lines(1))
    assert not batch.id.startswith("batch")
    assert batch.status == "completed"


def damaged(sandbox: Sandbox, encoding: str, *faults: LineFault) -> list[bytes]:
    sandbox.set_fault(BatchFault(lines=faults, shuffle=False))
    batch = run(sandbox, lines(4, encoding_format=encoding))
    assert batch.request_counts is not None
    assert (batch.status, batch.request_counts.completed) == ("completed", 4)
    return content(sandbox, batch.output_file_id).splitlines()


def vector(answer: dict[str, Any], encoding: str) -> list[float]:
    embedding = answer["response"]["body"]["data"][0]["embedding"]
    if encoding == "float":
        return list(embedding)
    return [float(value) for value in np.frombuffer(base64.b64decode(embedding), dtype="<f4")]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_vectors_that_are_none(sandbox: Sandbox, encoding: str) -> None:
    written = damaged(
        sandbox,
        encoding,
        LineFault("nan", custom_ids=("id-00000",)),
        LineFault("zero_vector", custom_ids=("id-00001",)),
        LineFault("wrong_dimension", custom_ids=("id-00002",)),
    )
    nan, zero, short, good = (vector(json.loads(each), encoding) for each in written)
    assert math.isnan(nan[0])
    assert not any(zero)
    assert (len(nan), len(zero), len(short), len(good)) == (256, 256, 255, 256)
    assert math.isclose(sum(value * value for value in good), 1, rel_tol=1e-4)


def test_lines_that_are_lost_silently(sandbox: Sandbox) -> None:
    assert ids(map(json.loads, damaged(sandbox, "float", LineFault("lost", 3)))) == ["id-00003"]


def test_a_line_that_is_not_json(sandbox: Sandbox) -> None:
    first, *others = damaged(sandbox, "float", LineFault("broken_json"))
    with pytest.raises(json.JSONDecodeError):
        json.loads(first)
    assert ids(map(json.loads, others)) == ["id-00001", "id-00002", "id-00003"]


def test_custom_ids_that_do_not_fit(sandbox: Sandbox) -> None:
    faults = LineFault("repeated_custom_id"), LineFault("unknown_custom_id")
    answers = [json.loads(each) for each in damaged(sandbox, "float", *faults)]
    assert ids(answers) == ["id-00000", "id-00000", "unknown-id-00001", "id-00002", "id-00003"]


def test_a_failed_response_among_the_good_ones(sandbox: Sandbox) -> None:
    answers = [json.loads(each) for each in damaged(sandbox, "float", LineFault("not_200"))]
    assert [answer["response"]["status_code"] for answer in answers] == [500, 200, 200, 200]


def test_a_body_given_as_a_string(sandbox: Sandbox) -> None:
    first, second, *_ = (json.loads(each) for each in damaged(sandbox, "float", LineFault("body_as_string")))
    body = json.loads(first["response"]["body"])
    assert set(body) == set(second["response"]["body"])


def test_rules_match_metadata_name_and_order_and_are_used_up(sandbox: Sandbox) -> None:
    sandbox.set_fault(BatchFault(metadata={"collection": "words"}, outcome="failed", code="by_metadata"))
    sandbox.set_fault(BatchFault(filename="day-*", skip=1, outcome="failed", code="by_name_and_order"))

    def code(name: str, metadata: dict[str, str]) -> str | None:
        batch = run(sandbox, lines(1), name=name, metadata=metadata)
        return batch.errors.data[0].code if batch.errors is not None and batch.errors.data else None

    assert code("other.jsonl", {"collection": "lines"}) is None
    assert code("other.jsonl", {"collection": "words", "day": "1"}) == "by_metadata"
    assert code("other.jsonl", {"collection": "words", "day": "2"}) is None
    assert code("day-1.jsonl", {}) is None
    assert code("day-2.jsonl", {}) == "by_name_and_order"
    assert code("day-3.jsonl", {}) is None
    assert [rule["spent"] for rule in sandbox.faults()] == [True, True]
    sandbox.clear_faults()
    assert sandbox.faults() == []


def test_a_misspelt_rule_is_refused(sandbox: Sandbox) -> None:
    address = sandbox.base_url.removesuffix("/v1") + "/sandbox/faults"
    with raw(sandbox) as http:
        answer = http.post(address, json={"on": "batch", "second": 3})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert http.post(address, json={"on": "batch", "times": 0}).status_code == 400
    assert sandbox.faults() == []
    assert issubclass(SandboxError, Exception)
