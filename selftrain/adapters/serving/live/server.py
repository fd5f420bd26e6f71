"""The server: the app on a socket, with the thread that watches the champion."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from dataclasses import dataclass

from selftrain.adapters.serving.live.live_model import Champion
from selftrain.adapters.serving.live.requests import RequestLimits
from selftrain.config import Inbox
from selftrain.errors import ServingError

log = logging.getLogger("selftrain.serve")
DEFAULT_LIMITS = RequestLimits()
DRAIN_S = 10  # for requests, and then for samples, after the signal to stop


@dataclass(frozen=True)
class Settings:
    """Where the server listens, how often it looks for a new champion, its limits, and where samples go."""

    host: str = "127.0.0.1"
    port: int = 8080
    poll_s: float = 5.0
    limits: RequestLimits = DEFAULT_LIMITS
    inbox: Inbox | None = None


def serve(champion: Champion, first: int, settings: Settings) -> None:
    """Serve version `first` of `champion`, and each later one, until SIGTERM or SIGINT.

    Raises ServingError where the port cannot be had, and whatever `champion.load` raises for `first`.
    """
    import uvicorn

    from selftrain.adapters.serving.live.app import create_app
    from selftrain.adapters.serving.live.asking import Asking
    from selftrain.adapters.serving.live.live_model import LiveModel
    from selftrain.adapters.serving.live.measures import Measures
    from selftrain.adapters.serving.live.samples import Sampler, open_inbox

    _log_to_stderr()
    with _listen(settings.host, settings.port) as listening:
        measures, stop = Measures(), threading.Event()
        live = LiveModel(champion, first, poll_s=settings.poll_s, measures=measures)
        inbox = settings.inbox
        sampler = None if inbox is None else Sampler(inbox.sampling, open_inbox(inbox), measures)
        asking = Asking(live, measures, settings.limits, sampler)
        app = create_app(asking, live, measures, settings.limits)
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=DRAIN_S)
        threading.Thread(target=live.watch, args=(stop,), name="champion", daemon=True).start()
        log.info("%s serves on http://%s:%s", live.current.uri, *listening.getsockname()[:2])
        if live.current.concern:
            log.warning("%s", live.current.concern)
        _end_quietly()
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            stop.set()
            if sampler is not None:
                sampler.close(DRAIN_S)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens; a port of 0 is any free one."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except OSError as error:
        raise ServingError(
            f"nothing can listen on {host} port {port} ({error.strerror or error}); give another --host or --port"
        ) from error


def _end_quietly() -> None:
    """Let a signal only stop uvicorn, which raises it again when it is done: what waits must still be written."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: None)


def _log_to_stderr() -> None:
    """Lines of the server and of uvicorn, each with its time. Other libraries may have set up the root logger."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("selftrain", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
