"""What every request passes before its route: the key, and the faults of the connection."""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedding_assets.sandbox.answers import answer
from embedding_assets.sandbox.contents import new_id
from embedding_assets.sandbox.fault_book import FaultBook
from embedding_assets.sandbox.faults import HttpFault
from embedding_assets.sandbox.problems import ApiError, missing_key, wrong_key

ABORT = "sandbox.abort"
"""The ASGI extension under which the server offers a function that closes the connection."""

HEALTH = "/sandbox/health"


class Gate:
    """ASGI middleware: outside of the routes, since a fault replaces whatever they would have done."""

    def __init__(self, app: ASGIApp, api_key: str, faults: FaultBook) -> None:
        self._app = app
        self._key = api_key.encode()
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, misbehave, or pass the request on."""
        if scope["type"] != "http" or scope["path"] == HEALTH:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await answer(refusal.body(), refusal.status, _request_id())(scope, receive, send)
            return
        path: str = scope["path"]
        fault = self._faults.for_request(scope["method"], path) if path.startswith("/v1/") else None
        if fault is None:
            await self._app(scope, receive, _with_request_id(send))
        elif fault.action == "status":
            await _status(fault)(scope, receive, send)
        elif fault.action == "drop":
            await _abort(scope, receive)
        elif fault.action == "first_page":
            await self._app(_without_cursor(scope), receive, _with_request_id(send))
        else:
            await self._app(scope, receive, _Cut(scope, receive, send, fault.after_bytes))

    def _refusal(self, scope: Scope) -> ApiError | None:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = header.partition(b" ")
        if scheme.lower() != b"bearer" or not key.strip():
            return missing_key()
        return None if hmac.compare_digest(key.strip(), self._key) else wrong_key(key.strip().decode("latin-1"))


def _status(fault: HttpFault) -> ASGIApp:
    kinds = {404: "invalid_request_error", 429: "requests"}
    codes = {429: "rate_limit_exceeded"}
    type_ = kinds.get(fault.status, "server_error" if fault.status >= 500 else "invalid_request_error")
    error = ApiError(fault.status, "A fault of the sandbox, as asked for.", type_=type_, code=codes.get(fault.status))
    headers = _request_id()
    if fault.retry_after is not None:
        headers["retry-after"] = f"{fault.retry_after:g}"
    return answer(error.body(), error.status, headers)


def _without_cursor(scope: Scope) -> Scope:
    query = [(name, value) for name, value in parse_qsl(scope["query_string"].decode("latin-1")) if name != "after"]
    return {**scope, "query_string": urlencode(query).encode("latin-1")}


async def _abort(scope: Scope, receive: Receive) -> None:
    scope["extensions"][ABORT]()
    while (await receive())["type"] != "http.disconnect":
        pass


class _Cut:
    """Passes on the beginning of an answer's body, then closes the connection."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, after_bytes: int) -> None:
        self._scope = scope
        self._send = send
        self._receive = receive
        self._left = after_bytes
        self._closed = False

    async def __call__(self, message: Message) -> None:
        if self._closed:
            return
        if message["type"] == "http.response.body":
            body: bytes = message.get("body", b"")
            if len(body) > self._left or not message.get("more_body", False):
                await self._send({"type": "http.response.body", "body": body[: self._left], "more_body": True})
                self._closed = True
                self._scope["extensions"][ABORT]()
                return
            self._left -= len(body)
        await self._send(message)


def _request_id() -> dict[str, str]:
    return {"x-request-id": new_id("req_")}


def _with_request_id(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: list[Any] = [*message["headers"], (b"x-request-id", _request_id()["x-request-id"].encode())]
            message = {**message, "headers": headers}
        await send(message)

    return sender
