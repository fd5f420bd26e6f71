"""The server: the page about a queue on a socket of this machine alone, until it is stopped."""

from __future__ import annotations

import logging
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from selftrain.adapters.review.app import Review, create_app
from selftrain.errors import ServingError

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
TOKEN_BYTES = 24


def serve(review: Review, *, port: int, started: Callable[[str], None]) -> None:
    """Serve `review` on 127.0.0.1 until SIGTERM or SIGINT; `port` 0: any free one. `started` gets the address.

    Every answer is on the disk before it is confirmed, so that a killed server loses nothing. Raises ServingError where
    the port cannot be had.
    """
    import uvicorn

    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        raise ServingError(
            f"nothing can listen on {HOST} port {port} ({error.strerror or error}); give another --port, or 0 for any"
        ) from error
    token, own = secrets.token_urlsafe(TOKEN_BYTES), listening.getsockname()[1]
    app = create_app(review, token, frozenset(f"{name}:{own}" for name in (HOST, "localhost")))
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = uvicorn.Server(config)
    with _ended_by_signals(server):
        started(f"http://{HOST}:{own}/{token}/")
        server.run(sockets=[listening])


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let a signal only end `server`, which raises it again when it is done: what comes after must still be done.

    Only a program's main thread gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
