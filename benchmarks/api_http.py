"""The routes of the misbehaving batch service, over real HTTP on this machine."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from api_manners import Door
from api_service import DIMENSIONS, Service, vector


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, service: Service) -> None:
        self.service = service
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("content-length") or 0)))

    def _serve(self, body: bytes) -> None:
        service = self.server.service
        with service.lock:
            service.advance()
            url = urlsplit(self.path)
            _, who, _, *rest = url.path.split("/")  # /{who}/v1/...
            door = self._door(url.path)
            if door is not None and door.answer != "done":
                self._turned_away(door)
                return
            with contextlib.suppress(_Answered):
                self._route(
                    who, rest, {k: v[-1] for k, v in parse_qs(url.query).items()}, body, silent=door is not None
                )

    def _door(self, path: str) -> Door | None:
        service = self.server.service
        for number, door in enumerate(service.habits.doors):
            used = service.opened.get(number, 0)
            fits = self.command == door.method and path.endswith(door.path) and door.since <= service.hours < door.until
            if fits and (door.times is None or used < door.times):
                service.opened[number] = used + 1
                return door
        return None

    def _turned_away(self, door: Door) -> None:
        if door.answer == "drop":
            self._drop()
        elif door.answer == "page":
            self._send(200, b"<html>Welcome</html>", "text/html")
        else:
            error = {"error": {"message": f"It says {door.code}.", "type": door.code, "param": None, "code": door.code}}
            more = {"Retry-After": door.retry_after} if door.retry_after else {}
            self._send(int(door.answer), json.dumps(error).encode(), more=more)

    def _route(self, who: str, rest: list[str], query: dict[str, str], body: bytes, *, silent: bool) -> None:
        service = self.server.service

        def answer(value: Any) -> None:
            if silent:
                self._drop()
            else:
                self._send(200, json.dumps(value).encode())
            raise _Answered

        match (self.command, *rest):
            case ("POST", "files"):
                answer({"id": service.upload(_uploaded(body, self.headers["content-type"])), "object": "file"})
            case ("POST", "batches"):
                asked = json.loads(body)
                if asked["input_file_id"] in service.files:
                    made = service.create(who, asked["input_file_id"], asked.get("metadata") or {}, asked["endpoint"])
                    answer(service.shown(made))
            case ("GET", "batches"):
                answer(service.listed(query.get("after"), int(query.get("limit", 20))))
            case ("GET", "batches", name):
                batch = service.known(name)
                if batch is not None:
                    answer(service.shown(batch))
            case ("POST", "batches", name, "cancel"):
                if service.known(name) is not None:
                    service.cancel(who, name)
                    answer(service.shown(service.batches[name]))
            case ("POST", "embeddings"):
                answer(_embedded(json.loads(body), service.habits.model))
            case ("GET", "models", name):
                answer({"id": name, "object": "model", "created": 0, "owned_by": "nobody"})
            case ("GET", "files", name, "content"):
                found = service.content(name)
                if found is not None:
                    self._download(*found)
                    return
            case ("GET", "files", name) if service.content(name) is not None:
                answer({"id": name, "object": "file", "bytes": len((service.content(name) or (b"",))[0])})
        error = {"error": {"message": "No such thing.", "type": "invalid_request_error", "param": None, "code": None}}
        self._send(404, json.dumps(error).encode())

    def _download(self, data: bytes, how: str) -> None:
        if how == "whole":
            self._send(200, data, "application/octet-stream")
            return
        # In the middle of a line, or after some whole ones.
        lines = data.splitlines(keepends=True)
        part = data[: len(data) // 2] if how == "middle" else b"".join(lines[: len(lines) // 2])
        self.send_response(200)
        if how in ("chunked", "middle"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write((f"{len(part):x}\r\n".encode() + part + b"\r\n" if part else b"") + b"0\r\n\r\n")
            self.wfile.flush()
            return
        if how == "length":
            self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(part)
        self._drop()

    def _send(
        self, status: int, data: bytes, kind: str = "application/json", more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _drop(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


class _Answered(Exception):
    pass


def _uploaded(body: bytes, kind: str) -> bytes:
    """The one file of a multipart form."""
    boundary = b"--" + kind.partition("boundary=")[2].strip('"').encode()
    for part in body.split(boundary):
        head, _, content = part.partition(b"\r\n\r\n")
        if re.search(rb'name="file"', head):
            return content.removesuffix(b"\r\n")
    raise ValueError("the form has no file")


def _embedded(asked: dict[str, Any], model: str | None) -> dict[str, Any]:
    given = asked["input"]
    texts = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    made = [vector(text, int(asked.get("dimensions") or DIMENSIONS)) for text in texts]
    plain = asked.get("encoding_format") != "base64"
    data = [
        {
            "index": i,
            "object": "embedding",
            "embedding": one.tolist() if plain else base64.b64encode(one.tobytes()).decode(),
        }
        for i, one in enumerate(made)
    ]
    return {
        "object": "list",
        "model": model or asked["model"],
        "data": data,
        "usage": {"total_tokens": 1, "prompt_tokens": 1},
    }


@contextlib.contextmanager
def serving(service: Service) -> Iterator[str]:
    """Serve it; gives the address, to which `/{who}/v1` is added."""
    server = _Server(service)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
