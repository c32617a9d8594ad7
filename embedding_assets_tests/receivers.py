"""Receivers of alerts: a web server and a mail server on this machine, that refuse or go down when told to."""

from __future__ import annotations

import email
import email.policy
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

_ALERT = re.compile(r"^alerts? (\S+)(?: to (\S+))?\s*$", re.MULTILINE)


class Webhook:
    """Takes notifications as JSON by HTTP; `status` is what it answers, `received` what it accepted."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.refused = 0
        self.status = 200
        self.on_receipt: Callable[[], object] = lambda: None  # before it answers
        self.port = free_port()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it is, with a password and a path that are nobody's business."""
        return f"json://robot:hunter2-password@127.0.0.1:{self.port}/hooks/T0PSECRETT0KEN"

    @property
    def titles(self) -> list[str]:
        return [str(one["title"]) for one in self.received]

    @property
    def ids(self) -> list[str]:
        """Ids of the alerts that it accepted; of a summary the first and the last."""
        return [found for one in self.received for found in _ids(one["message"])]

    def up(self) -> None:
        """Listen."""
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if hook.status == 200:
                    hook.received.append(body)
                    hook.on_receipt()
                else:
                    hook.refused += 1
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def down(self) -> None:
        """Stop listening: connections are refused."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class Mailbox:
    """Takes mail by SMTP; refuses it while `refuses` is set."""

    def __init__(self) -> None:
        self.received: list[EmailMessage] = []
        self.refuses = False
        self.refused = 0
        self.port = free_port()
        self._controller: Controller | None = None

    @property
    def url(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?from=robot@example.com&to=night@example.com&mode=insecure"

    @property
    def titles(self) -> list[str]:
        return [str(one["Subject"]) for one in self.received]

    @property
    def ids(self) -> list[str]:
        """Ids of the alerts that it accepted; of a summary the first and the last."""
        bodies = (one.get_body(("plain",)) for one in self.received)
        return [found for body in bodies if body for found in _ids(body.get_content())]

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refuses:
            self.refused += 1
            return "451 try again later"
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.received.append(message)
        return "250 OK"

    def up(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def down(self) -> None:
        if self._controller:
            self._controller.stop()
            self._controller = None


def _ids(text: str) -> list[str]:
    return [found for match in _ALERT.findall(text) for found in match if found]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A web server that listens."""
    made = Webhook()
    made.up()
    try:
        yield made
    finally:
        made.down()


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A mail server that listens."""
    made = Mailbox()
    made.up()
    try:
        yield made
    finally:
        made.down()
