"""The input file of a batch: lines of requests, and the check they pass before any of them is executed.

The format is OpenAI's (https://platform.openai.com/docs/guides/batch, "Preparing your batch file"): each line has a
unique `custom_id`, `method` POST, `url` equal to the batch's endpoint, and the request's `body`. The error codes are
those that the API has been seen to give; the reference has no list of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from embedding_assets.sandbox.limits import Limits
from embedding_assets.sandbox.model import MODEL_ID, Model
from embedding_assets.sandbox.state import InputProblem

ENDPOINT = "/v1/embeddings"
_MOST_PROBLEMS = 100
_TEXTS_AT_ONCE = 2000


@dataclass(frozen=True)
class Checked:
    """What the check found: how much there is to do, or why it will not be done."""

    requests: int
    model: str | None
    tokens: int
    problems: tuple[InputProblem, ...]


@dataclass(frozen=True)
class Span:
    """Where a line lies in the file, so that lines can be read in any order."""

    start: int
    length: int


def find_lines(path: Path) -> list[Span]:
    """The lines of the file; blank ones at its end do not count."""
    spans: list[Span] = []
    filled = 0
    with path.open("rb") as file:
        start = 0
        for raw in file:
            spans.append(Span(start, len(raw)))
            start += len(raw)
            if raw.strip():
                filled = len(spans)
    return spans[:filled]


def check(path: Path, limits: Limits, model: Model | None) -> Checked:
    """Check the whole file; with a model, count the tokens as well."""
    if path.stat().st_size > limits.file_bytes:
        return _refused("file_too_large", f"The input file is larger than {limits.file_bytes} bytes.")
    checker = _Checker(limits)
    lines = len(find_lines(path))
    if lines == 0:
        return _refused(
            "empty_file", "The input file is empty. Please ensure that the batch contains at least one request."
        )
    if lines > limits.requests:
        return _refused("too_many_tasks", f"The batch has {lines} requests, at most {limits.requests} are allowed.")
    tokens = 0
    texts: list[str] = []
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if number > lines or len(checker.problems) >= _MOST_PROBLEMS:
                break
            found = checker.line(number, raw)
            if model is not None:
                texts.extend(found)
                if len(texts) >= _TEXTS_AT_ONCE:
                    tokens += model.count_tokens(texts)
                    texts.clear()
    if model is not None:
        tokens += model.count_tokens(texts)
    if checker.inputs > limits.embedding_inputs:
        checker.add(
            "too_many_inputs",
            f"The batch has {checker.inputs} embedding inputs, at most {limits.embedding_inputs} are allowed.",
        )
    return Checked(lines, checker.model, tokens, tuple(checker.problems))


def _refused(code: str, message: str) -> Checked:
    return Checked(0, None, 0, (InputProblem(code, message),))


class _Checker:
    """Checks line by line; remembers what must agree between lines."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._custom_ids: set[str] = set()
        self.problems: list[InputProblem] = []
        self.model: str | None = None
        self.inputs = 0

    def add(self, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        self.problems.append(InputProblem(code, message, line, param))

    def line(self, number: int, raw: bytes) -> list[str]:
        """Check a line; answer its texts."""
        try:
            line: Any = orjson.loads(raw)
        except orjson.JSONDecodeError:
            self.add("invalid_json_line", "This line is not parseable as valid JSON.", number)
            return []
        if not isinstance(line, dict):
            self.add("invalid_json_line", "This line is not a JSON object.", number)
            return []
        before = len(self.problems)
        self._envelope(number, line)
        if len(self.problems) > before:
            return []
        body = line["body"]
        self._model(number, body)
        texts = body.get("input")
        if isinstance(texts, str):
            texts = [texts]
        strings = [text for text in texts if isinstance(text, str)] if isinstance(texts, list) else []
        self.inputs += max(1, len(strings))
        return strings

    def _envelope(self, number: int, line: dict[str, Any]) -> None:
        for name in ("custom_id", "method", "url", "body"):
            if name not in line:
                self.add("missing_required_parameter", f"Missing required parameter: '{name}'.", number, name)
                return
        custom_id = line["custom_id"]
        if not isinstance(custom_id, str) or not custom_id:
            self.add("invalid_type", "The custom_id must be a string that is not empty.", number, "custom_id")
        elif custom_id in self._custom_ids:
            self.add(
                "duplicate_custom_id",
                f"The custom_id '{custom_id}' for this request is a duplicate of another request. "
                "The custom_id parameter must be unique for each request in a batch.",
                number,
                "custom_id",
            )
        else:
            self._custom_ids.add(custom_id)
        if line["method"] != "POST":
            self.add("invalid_method", f"Invalid method {line['method']!r}: only POST is supported.", number, "method")
        if line["url"] != ENDPOINT:
            message = f"The URL provided for this request ({line['url']!r}) does not match the batch's endpoint."
            self.add("invalid_url", message, number, "url")
        if not isinstance(line["body"], dict):
            self.add("invalid_type", "The body must be a JSON object.", number, "body")

    def _model(self, number: int, body: dict[str, Any]) -> None:
        model = body.get("model")
        if not isinstance(model, str):
            self.add("missing_required_parameter", "Missing required parameter: 'model'.", number, "body.model")
        elif self.model is None:
            self.model = model
            if model != MODEL_ID:
                self.add("model_not_found", f"The provided model '{model}' is not supported.", number, "body.model")
        elif model != self.model:
            self.add(
                "mismatched_model",
                f"The provided model '{model}' does not match the first request's model '{self.model}'. "
                "All requests in a batch must use the same model.",
                number,
                "body.model",
            )


def read_lines(path: Path, spans: list[Span]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The size and the content of the lines, in the order of `spans`."""
    with path.open("rb") as file:
        for span in spans:
            file.seek(span.start)
            yield span.length, orjson.loads(file.read(span.length))
