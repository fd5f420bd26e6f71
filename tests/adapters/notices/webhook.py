"""A webhook of our own: a real HTTP server that keeps what it was sent."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "T0K3N"


class Hook(ThreadingHTTPServer):
    """A webhook that answers as it is told, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status, self.slow_s = 200, 0.0
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/{TOKEN}"


class Answer(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, json.loads(body)))
        head = f"HTTP/1.0 {self.server.status} Told\r\nLocation: {self.server.url}/elsewhere\r\n\r\n".encode()
        for byte in head:
            if self.server.over.wait(self.server.slow_s):
                return
            self.wfile.write(bytes([byte]))

    def log_message(self, *_: object) -> None:
        pass
