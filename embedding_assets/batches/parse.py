"""Reads the lines of a batch's output or error file, and trusts nothing in them.

A line is 98 % numbers. They are cut out of it and read by what reads numbers fastest; the rest is small and is read as
JSON. Whatever is unusual about the numbers stays in the line and is read as JSON too, so that both ways say the same.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import orjson
import pybase64
import simdjson

from embedding_assets.batches.answers import vector_of
from embedding_assets.batches.numerals import read_numbers
from embedding_assets.batches.refusals import code_of, may_succeed_later, status_of
from embedding_assets.catalog import CollectionSpec
from embedding_assets.records import Vectors

ACCEPTED = "accepted"
WRONG_MODEL = "wrong_model"
BAD_JSON = "bad_json"
_LONGEST_REASON = 300
_KEY: Final = b'"embedding":'
# What stands for a vector that was cut out; nobody who writes a file can know it.
_MARKED: Final = secrets.token_hex(16)
_MARK: Final = _MARKED.encode()
_QUOTED: Final = b'"' + _MARK + b'"'
_FLOAT: Final = np.dtype("<f4")

# What a value begins with, where it begins and where it ends; of a text, what is between its quotes.
Place: TypeAlias = tuple[bytes, int, int]
_TEXT: Final = b'"'
_NUMBERS: Final = b"["
_NOWHERE: Final[Place] = (b"", 0, 0)


class Answer(NamedTuple):
    """What one line says.

    Attributes:
        custom_id: the record it speaks of; None where it does not say.
        vector: the embedding, shape (dimensions,); None where it is rejected.
        code: `accepted`, or a short name of what is wrong.
        reason: what is wrong, in words.
        retryable: whether asking again may help. Vectors that cannot be right are: within the collection's `attempts`.
        tokens: tokens that the line was charged for.
        parts: what it says of each record, where the line answers several.
        model: which other model it names, where it is rejected for that.
    """

    custom_id: str | None
    vector: Vectors | None
    code: str
    reason: str = ""
    retryable: bool = False
    tokens: int = 0
    parts: tuple[Answer, ...] = ()
    model: str = ""


class _Bad(Exception):
    def __init__(self, code: str, reason: str, retryable: bool = True, model: str = "") -> None:
        super().__init__(reason)
        self.model = model
        self.code, self.reason, self.retryable = code, reason[:_LONGEST_REASON], retryable

    @property
    def said(self) -> tuple[str, str, bool]:
        return self.code, self.reason, self.retryable


class LineParser:
    """Reads lines of one collection, one after the other; several threads need one each.

    Args:
        several: how many records each custom_id stands for that asked for a list: `{custom_id}#{index}`.
    """

    def __init__(self, spec: CollectionSpec, several: Mapping[str, int] | None = None) -> None:
        self._spec = spec
        self._several = several or {}
        self._numbers = simdjson.Parser()

    def parse(self, line: bytes) -> Answer:
        """What a line says of which record; never raises for what a line holds.

        Under `np.errstate(over="ignore", invalid="ignore")`: vectors beyond float32 are rejected by name.
        """
        return self.parse_at(line, place_of(line))

    def parse_at(self, line: bytes, place: Place, numbers: Vectors | None = None) -> Answer:
        """As `parse`, of a line whose `place_of` is known; `numbers` if what stands there has been read already."""
        rest, vector = self._cut(line, place, numbers)
        if vector is not None:
            answer = self._read(rest, vector)
            if answer.vector is vector:
                return answer
        return self._read(line, None)

    def _read(self, line: bytes, vector: Vectors | None) -> Answer:
        try:
            raw = _json(line)
        except ValueError as error:
            return Answer(None, None, BAD_JSON, f"the line is no JSON ({error})"[:_LONGEST_REASON], True)
        if not isinstance(raw, dict):
            return Answer(None, None, BAD_JSON, f"the line is of type {type(raw).__name__}, not an object", True)
        custom_id = raw.get("custom_id")
        if isinstance(custom_id, int) and not isinstance(custom_id, bool):
            custom_id = str(custom_id)
        if not isinstance(custom_id, str) or not custom_id:
            return Answer(None, None, "no_custom_id", "the line names no record", True)
        if custom_id in self._several:
            return self._of_several(custom_id, raw)
        tokens = 0
        try:
            body = _body(raw)
            tokens = _tokens(body)
            return Answer(custom_id, _vector(body, self._spec, vector), ACCEPTED, "", False, tokens)
        except _Bad as bad:
            return Answer(custom_id, None, bad.code, bad.reason, bad.retryable, tokens, model=bad.model)

    def _of_several(self, custom_id: str, raw: dict[str, Any]) -> Answer:
        """What a line says of each record that its custom_id stands for; `index` tells which vector is whose."""
        count = self._several[custom_id]
        ids = [f"{custom_id}#{index}" for index in range(count)]
        try:
            body = _body(raw)
            data = body.get("data")
            if not isinstance(data, list):
                raise _Bad("no_embedding", "the response does not hold embeddings")
        except _Bad as bad:
            return Answer(None, None, bad.code, parts=tuple(Answer(i, None, *bad.said) for i in ids))
        entries: dict[int, list[Any]] = {}
        for place, entry in enumerate(data):
            index = entry.get("index", place if len(data) == count else None) if isinstance(entry, dict) else None
            if isinstance(index, int) and not isinstance(index, bool):
                entries.setdefault(index, []).append(entry)
        parts: list[Answer] = []
        for index, record_id in enumerate(ids):
            tokens = 0 if parts else _tokens(body)
            try:
                vector = _vector({**body, "data": entries.get(index, [])}, self._spec, None)
                parts.append(Answer(record_id, vector, ACCEPTED, "", False, tokens))
            except _Bad as bad:
                parts.append(Answer(record_id, None, *bad.said, tokens, model=bad.model))
        return Answer(None, None, ACCEPTED, parts=tuple(parts))

    def _cut(self, line: bytes, place: Place, numbers: Vectors | None) -> tuple[bytes, Vectors | None]:
        """The line with a mark in place of its vector, and the vector; the line as it is where that is not certain.

        What is at its place is cut if it is base64 or plain numbers of the right count, so that what is left is JSON if
        and only if the line is.
        """
        kind, start, end = place
        vector = numbers
        mark = _QUOTED
        if kind == _TEXT:
            mark = _MARK
            try:
                raw = pybase64.b64decode(memoryview(line)[start:end], validate=True)
                vector = np.frombuffer(raw, dtype=_FLOAT)
            except (ValueError, TypeError):  # what is no base64, or no number of float32
                return line, None
        elif kind == _NUMBERS and vector is None:
            doubles = read_numbers(self._numbers, memoryview(line)[start:end])
            # In double precision first, as Python's own reader does: the last bit may hang on it.
            vector = np.frombuffer(doubles, dtype=np.float64).astype(np.float32) if doubles else None
        if vector is None or vector.size != self._spec.dimensions:
            return line, None
        return line[:start] + mark + line[end:], vector


def place_of(line: bytes) -> Place:
    """Where the vector of a line stands, as far as can be told without reading it.

    It is the value that follows the first `"embedding":`. Within a text of JSON the key could not stand like this: its
    quotes would be escaped.
    """
    start = line.find(_KEY)
    if start < 0:
        return _NOWHERE
    start += len(_KEY)
    start += line[start : start + 1] == b" "
    kind = line[start : start + 1]
    if kind == _TEXT:
        return kind, start + 1, line.find(b'"', start + 1)
    if kind == _NUMBERS:
        return kind, start, line.find(b"]", start) + 1
    return _NOWHERE


def holds_numbers(place: Place) -> bool:
    """Whether an array of numbers may stand at a place."""
    return place[0] == _NUMBERS


def _json(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        # Python's own reader takes NaN and Infinity, which some servers write: the record is then known by name.
        try:
            return json.loads(line)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _tokens(body: dict[str, Any]) -> int:
    usage = body.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else 0


def _body(raw: dict[str, Any]) -> dict[str, Any]:
    """The body of a good response; _Bad where it is none."""
    if raw.get("error"):
        raise _refusal(raw["error"], None)
    response = raw.get("response")
    if not isinstance(response, dict):
        raise _Bad("no_response", "the line has no response")
    body = response.get("body")
    if isinstance(body, str):  # some servers give JSON within JSON
        try:
            body = _json(body.encode("utf-8", "replace"))
        except ValueError:
            body = {"error": {"message": body}} if status_of(response.get("status_code")) != 200 else None
    status = status_of(response.get("status_code"))
    if status != 200:
        raise _refusal(body.get("error", body) if isinstance(body, dict) else body, status)
    if not isinstance(body, dict):
        raise _Bad("no_body", "the response has no body")
    if body.get("error"):
        raise _refusal(body["error"], None)
    return body


def _refusal(error: Any, status: int | None) -> _Bad:
    fields = error if isinstance(error, dict) else {"message": error}
    code, kind, message = (str(fields.get(name) or "") for name in ("code", "type", "message"))
    if (number := status_of(code)) is not None:  # some servers give the status as the code
        code, status = "", status if status is not None and status != 200 else number
    said = message or "no reason given"
    said = f"answered {status}: {said}" if status is not None else said
    return _Bad(code_of(code, kind, status), said, may_succeed_later(code, kind, status))


def _vector(body: dict[str, Any], spec: CollectionSpec, cut: Vectors | None) -> Vectors:
    model = body.get("model")
    if isinstance(model, str) and model and not spec.answers_as(model):
        # Asking again would bring the same answer for the same money; the declaration is what can change.
        raise _Bad(
            WRONG_MODEL,
            f"the vector is of model {model!r}, not {spec.model!r}; if they are the same, declare "
            f"`model_answers_as: [{model}]`",
            False,
            model,
        )
    data = body.get("data")
    if not isinstance(data, list) or len(data) != 1 or not isinstance(data[0], dict):
        raise _Bad("no_embedding", "the response does not hold one embedding")
    value = data[0].get("embedding")
    try:
        vector = cut if cut is not None and value == _MARKED else vector_of(value)
    except ValueError as error:
        raise _Bad("no_embedding", str(error)) from None
    if vector.shape != (spec.dimensions,):
        raise _Bad("wrong_dimension", f"the vector has {vector.size} dimensions, not {spec.dimensions}")
    # Nearly every vector's length is finite and not zero, and so is then the vector.
    if 0.0 < float(vector.dot(vector)) < math.inf:
        return vector
    if not np.isfinite(vector).all():
        raise _Bad("not_finite", "the vector holds NaN or infinity")
    if not vector.any():
        # It has no direction, and with cosine no distance to anything; no model gives it for a text.
        raise _Bad("zero_vector", "the vector is zero")
    return vector
