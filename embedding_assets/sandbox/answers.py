"""What all routes share: reading a JSON body, reading numbers from a query, answering in JSON."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from embedding_assets.sandbox.problems import ApiError


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON; vectors may stand in it as they are."""
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, headers, media_type="application/json")


async def json_body(request: Request) -> dict[str, Any]:
    """The JSON object in the request's body."""
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The body of the request must be a JSON object.")
    return body


def number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A number from the query, within its bounds."""
    raw = request.query_params.get(name)
    if raw is None:
        return default
    try:
        value = int(raw)
    except ValueError as error:
        raise ApiError(400, f"Invalid '{name}': expected an integer, got {raw!r}.", param=name) from error
    if not least <= value <= most:
        raise ApiError(400, f"Invalid '{name}': expected a value from {least} to {most}, got {value}.", param=name)
    return value
