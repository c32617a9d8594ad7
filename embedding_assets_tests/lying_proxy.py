"""A proxy before a real S3 server that can be told to lie: about what was written, what is there, what it holds."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from embedding_assets.settings import S3Settings

_OWN_HEADERS = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


@dataclass(frozen=True)
class Request:
    """What a client asks: method, path with query, headers, body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What it is answered; `length` where another content length is promised than is sent."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None


Forward = Callable[[Request], Answer]
# A lie takes a request and the way to the true server, and answers, or gives None for an honest answer.
Lie = Callable[[Request, Forward], "Answer | None"]


@dataclass
class LyingProxy:
    """The proxy; `lie` is asked about every request, `requests` are those that came."""

    settings: S3Settings
    lie: Lie = lambda request, forward: None
    requests: list[Request] = field(default_factory=list)


@contextmanager
def lying_proxy(behind: S3Settings) -> Iterator[LyingProxy]:
    """A proxy before the server of these settings, honest until told otherwise, until the block ends."""
    target = urlsplit(str(behind.endpoint_url))

    def forward(request: Request) -> Answer:
        connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=30)
        try:
            connection.request(request.method, request.path, request.body or None, request.headers)
            response = connection.getresponse()
            kept = {k: v for k, v in response.getheaders() if k.lower() not in _OWN_HEADERS}
            if request.method == "HEAD":
                return Answer(response.status, b"", kept, int(response.getheader("content-length") or 0))
            return Answer(response.status, response.read(), kept)
        finally:
            connection.close()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            # The host that the client signed for stays in the headers, so that its signature holds.
            request = Request(self.command, self.path, dict(self.headers.items()), body)
            proxy.requests.append(request)
            answer = proxy.lie(request, forward) or forward(request)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body) if answer.length is None else answer.length))
            self.end_headers()
            self.wfile.write(answer.body)
            if answer.length is not None and answer.length != len(answer.body) and request.method != "HEAD":
                self.close_connection = True

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _any

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy = LyingProxy(replace(behind, endpoint_url=f"http://127.0.0.1:{server.server_address[1]}"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
