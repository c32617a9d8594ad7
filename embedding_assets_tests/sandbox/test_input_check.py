"""The check of an input file, and the limits it keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from embedding_assets.sandbox import BatchFault, Limits, Sandbox
from embedding_assets.sandbox.input_file import Checked, check, find_lines, read_lines
from embedding_assets_tests.sandbox.asking import (
    MODEL,
    as_file,
    client,
    line,
    lines,
    run,
    submit,
    wait,
    wait_for,
)


def checked(folder: Path, content: bytes, limits: Limits | None = None) -> Checked:
    path = folder / "in.jsonl"
    path.write_bytes(content)
    return check(path, limits or Limits(), None)


def test_a_good_file_is_accepted_with_or_without_a_last_newline(tmp_path: Path) -> None:
    for content in (as_file(lines(3)), as_file(lines(3)).rstrip(), as_file(lines(3)) + b"\n \r\n"):
        assert checked(tmp_path, content) == Checked(3, MODEL, 0, ())


def test_lines_can_be_read_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(as_file(lines(3)))
    first, second, third = find_lines(path)
    assert [each["custom_id"] for _, each in read_lines(path, [third, first, second])] == [
        "id-00002",
        "id-00000",
        "id-00001",
    ]


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in line("b", "MILK").items() if key != name}


@pytest.mark.parametrize(
    ("second", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"[]", "invalid_json_line", None),
        (b"", "invalid_json_line", None),
        (b"\xff", "invalid_json_line", None),
        (line("a", "MILK"), "duplicate_custom_id", "custom_id"),
        (line("", "MILK"), "invalid_type", "custom_id"),
        (without("custom_id"), "missing_required_parameter", "custom_id"),
        (without("body"), "missing_required_parameter", "body"),
        ({**line("b", "MILK"), "method": "GET"}, "invalid_method", "method"),
        ({**line("b", "MILK"), "url": "/v1/chat/completions"}, "invalid_url", "url"),
        ({**line("b", "MILK"), "body": []}, "invalid_type", "body"),
        ({**line("b", "MILK"), "body": {"input": "MILK"}}, "missing_required_parameter", "body.model"),
        (line("b", "MILK", model="another"), "mismatched_model", "body.model"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, second: Any, code: str, param: str | None) -> None:
    middle = second if isinstance(second, bytes) else json.dumps(second).encode()
    content = as_file([line("a", "MILK")]) + middle + b"\n" + as_file([line("c", "MILK")])
    problems = checked(tmp_path, content).problems
    assert [(each.code, each.line, each.param) for each in problems] == [(code, 2, param)]
    assert problems[0].message


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    assert [each.code for each in checked(tmp_path, content).problems] == ["empty_file"]


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    problems = checked(tmp_path, as_file(lines(2, model="gpt-unknown"))).problems
    assert [(each.code, each.line) for each in problems] == [("model_not_found", 1)]


def test_no_more_than_a_hundred_problems_are_named(tmp_path: Path) -> None:
    assert len(checked(tmp_path, b"{\n" * 500).problems) == 100


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(requests=3), "too_many_tasks"),
        (Limits(embedding_inputs=7), "too_many_inputs"),
        (Limits(file_bytes=100), "file_too_large"),
    ],
)
def test_a_limit_is_kept_and_what_just_fits_is_taken(tmp_path: Path, limits: Limits, code: str) -> None:
    four = [line(str(number), ["MILK", "BREAD"]) for number in range(4)]
    assert [each.code for each in checked(tmp_path, as_file(four), limits).problems] == [code]
    size = len(as_file(four))
    assert checked(tmp_path, as_file(four), Limits(requests=4, embedding_inputs=8, file_bytes=size)).problems == ()


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    limits = Limits(requests=50, file_bytes=20_000, enqueued_tokens=100)
    with Sandbox.start(tmp_path_factory.mktemp("narrow"), limits=limits) as sandbox:
        yield sandbox


def codes(batch: openai.types.Batch) -> list[str | None]:
    return [error.code for error in batch.errors.data or []] if batch.errors is not None else []


@pytest.mark.service
def test_a_batch_with_a_bad_file_fails_with_the_line(sandbox: Sandbox) -> None:
    batch = run(sandbox, [line("a", "MILK"), line("a", "MILK")])
    assert (batch.status, codes(batch)) == ("failed", ["duplicate_custom_id"])
    assert batch.errors is not None
    assert [(error.line, error.param) for error in batch.errors.data or []] == [(2, "custom_id")]
    assert batch.failed_at is not None
    assert batch.output_file_id is None


@pytest.mark.service
def test_an_upload_that_is_too_large_is_refused(narrow: Sandbox) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client(narrow).files.create(file=("in.jsonl", b"x" * 20_001), purpose="batch")
    assert caught.value.status_code == 413


@pytest.mark.service
def test_the_service_keeps_the_limits_it_was_started_with(narrow: Sandbox) -> None:
    assert codes(run(narrow, lines(51))) == ["too_many_tasks"]


@pytest.mark.service
def test_enqueued_tokens_are_free_again_once_a_batch_has_ended(narrow: Sandbox) -> None:
    narrow.set_fault(BatchFault(seconds=3600))
    api = client(narrow)
    first = submit(api, as_file([line("a", "one " * 60)]))
    wait_for(api, first.id, lambda batch: batch.status == "in_progress")
    assert codes(run(narrow, [line("b", "one " * 60)])) == ["token_limit_exceeded"]
    assert run(narrow, [line("c", "one")]).status == "completed"
    api.batches.cancel(first.id)
    wait(api, first.id)
    assert run(narrow, [line("b", "one " * 60)]).status == "completed"
