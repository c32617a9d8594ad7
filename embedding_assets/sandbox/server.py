"""Running the service as a process: on 127.0.0.1 and nowhere else, until it is told to stop or its parent dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from embedding_assets.sandbox.app import build_app
from embedding_assets.sandbox.gate import ABORT
from embedding_assets.sandbox.service import Service, Settings

HOST = "127.0.0.1"
_GRACE_SECONDS = 3
_LOOK_SECONDS = 0.3


class AbortableProtocol(H11Protocol):
    """HTTP/1.1 that lets the application close the connection, which ASGI alone has no message for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = _offering(self.app, self._abort)

    def _abort(self) -> None:
        # The transport is only known once there is a connection.
        self.transport.abort()


def _offering(app: Any, abort: Callable[[], None]) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[ABORT] = abort
        await app(scope, receive, send)

    return wrapped


def bind(port: int) -> socket.socket:
    """Bind a port of the loopback interface; 0 takes a free one."""
    # Named as TCP, or asyncio leaves Nagle's algorithm on and every answer waits 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    return listener


def run(settings: Settings, listener: socket.socket, ready: Callable[[], None], parent: int | None = None) -> None:
    """Serve until SIGTERM, SIGINT, or the death of the process `parent`."""
    service = Service.open(settings)
    try:
        config = uvicorn.Config(
            build_app(service),
            http=AbortableProtocol,
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        server = uvicorn.Server(config)
        # uvicorn raises the signal that ended it once more afterwards: with a handler in place that is a clean exit.
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: _ask_to_stop(server))
        if parent is not None:
            threading.Thread(target=_follow, args=(parent, server), daemon=True).start()
        listener.listen()
        ready()
        asyncio.run(server.serve(sockets=[listener]))
    finally:
        service.close()


def _ask_to_stop(server: uvicorn.Server) -> None:
    server.should_exit = True


def _follow(parent: int, server: uvicorn.Server) -> None:
    """Stop when the parent is gone: a killed parent cannot stop us, and an orphan would hold the port for ever."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    _ask_to_stop(server)
