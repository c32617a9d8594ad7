"""POST /v1/embeddings: what is asked, and its answer; alone or as one line of a batch."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from embedding_assets.sandbox.limits import MAX_INPUTS_PER_REQUEST, MAX_TOKENS_PER_INPUT, MAX_TOKENS_PER_REQUEST
from embedding_assets.sandbox.model import DIMENSIONS, FULL, MODEL_ID, Model, shorten
from embedding_assets.sandbox.problems import ApiError, model_not_found

_FIELDS = frozenset({"input", "model", "encoding_format", "dimensions", "user"})


@dataclass(frozen=True)
class EmbeddingRequest:
    """A checked request (https://platform.openai.com/docs/api-reference/embeddings/create)."""

    inputs: tuple[str, ...]
    base64: bool
    dimensions: int


def read_request(body: object) -> EmbeddingRequest:
    """Check the body of a request; refuse what the service cannot do rather than do something else."""
    if not isinstance(body, dict):
        raise ApiError(400, "The body of the request must be a JSON object.")
    unknown = sorted(set(body) - _FIELDS)
    if unknown:
        raise ApiError(400, f"Unrecognized request argument supplied: {unknown[0]}", param=unknown[0])
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ApiError(400, "You must provide a model parameter.", param="model")
    if model != MODEL_ID:
        raise model_not_found(model)
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise ApiError(400, f"Invalid encoding_format {encoding!r}: use 'float' or 'base64'.", param="encoding_format")
    return EmbeddingRequest(_inputs(body.get("input")), encoding == "base64", _dimensions(body.get("dimensions")))


def _inputs(value: object) -> tuple[str, ...]:
    inputs = [value] if isinstance(value, str) else value
    if not isinstance(inputs, list) or not inputs:
        raise ApiError(400, "'$.input' is invalid: give a string or a list of strings.", param="input")
    if not all(isinstance(text, str) for text in inputs):
        raise ApiError(400, "'$.input' is invalid: arrays of tokens are not supported, give strings.", param="input")
    if len(inputs) > MAX_INPUTS_PER_REQUEST:
        raise ApiError(
            400,
            f"'$.input' is invalid: {len(inputs)} inputs, at most {MAX_INPUTS_PER_REQUEST} are allowed.",
            param="input",
        )
    if not all(inputs):
        raise ApiError(400, "'$.input' is invalid: an input cannot be an empty string.", param="input")
    return tuple(inputs)


def _dimensions(value: object) -> int:
    if value is None:
        return FULL
    if isinstance(value, bool) or not isinstance(value, int) or value not in DIMENSIONS:
        allowed = ", ".join(str(each) for each in DIMENSIONS)
        raise ApiError(
            400, f"Invalid value for 'dimensions': {value!r}; {MODEL_ID} supports {allowed}.", param="dimensions"
        )
    return value


def answer_all(requests: Sequence[EmbeddingRequest], model: Model) -> list[dict[str, Any] | ApiError]:
    """Answer many requests in one pass of the model, each with its body or with the reason of its refusal."""
    embedded = model.embed([text for request in requests for text in request.inputs], longest=MAX_TOKENS_PER_INPUT)
    vectors = {each: shorten(embedded.sums, each) for each in {request.dimensions for request in requests}}
    answers: list[dict[str, Any] | ApiError] = []
    start = 0
    for request in requests:
        end = start + len(request.inputs)
        rows = vectors[request.dimensions][start:end]
        tokens = embedded.tokens[start:end]
        refusal = _refusal(rows, tokens)
        answers.append(refusal if refusal is not None else _body(request, rows, int(tokens.sum())))
        start = end
    return answers


def _refusal(rows: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64]) -> ApiError | None:
    if int(tokens.max()) > MAX_TOKENS_PER_INPUT:
        return ApiError(
            400,
            f"This model's maximum context length is {MAX_TOKENS_PER_INPUT} tokens, however you requested "
            f"{int(tokens.max())} tokens. Please reduce your prompt.",
            param="input",
            code="context_length_exceeded",
        )
    if int(tokens.sum()) > MAX_TOKENS_PER_REQUEST:
        return ApiError(
            400,
            f"Requested {int(tokens.sum())} tokens, max {MAX_TOKENS_PER_REQUEST} tokens per request.",
            param="input",
            code="max_tokens_per_request",
        )
    if not rows.any(axis=1).all() or not np.isfinite(rows).all():
        return ApiError(400, "'$.input' is invalid: an input has no token that the model knows.", param="input")
    return None


def _body(request: EmbeddingRequest, rows: npt.NDArray[np.float32], tokens: int) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode_vector(row) if request.base64 else row}
            for index, row in enumerate(rows)
        ],
        "model": MODEL_ID,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def encode_vector(vector: npt.NDArray[np.float32]) -> str:
    """A vector as OpenAI's `base64`: little-endian float32, as the official client reads it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
