"""A front of an S3 server that knows conditional writes, which rclone's server passes over.

It compares If-Match and If-None-Match of a PUT with the file as it is, as Amazon's servers do, and answers 412 where
they do not hold. Everything else goes on to the server as it came.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.adapters.s3 import S3Server


class ConditionalS3:
    """The front; `before_put` happens once, after a conditional PUT has arrived and before it is compared."""

    def __init__(self, behind: S3Server) -> None:
        self.behind = behind
        self.before_put: Callable[[], object] | None = None
        self.knows = True  # False: a condition is answered with 501
        self.refused = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def file(self, path: str) -> Path:
        return self.behind.folder / path

    def answer(self, path: str, match: str | None, none_match: str | None) -> tuple[int, str] | None:
        """Status and code that refuse a PUT; None where it goes on."""
        if match is None and none_match is None:
            return None
        if not self.knows:
            return 501, "NotImplemented"
        if self.before_put is not None:
            self.before_put()
            self.before_put = None
        file = self.file(path)
        etag = f'"{hashlib.md5(file.read_bytes()).hexdigest()}"' if file.is_file() else None
        if (none_match == "*" and etag is not None) or (match is not None and match != etag):
            self.refused += 1
            return 412, "PreconditionFailed"
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(front: ConditionalS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _go_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            refused = None
            if self.command == "PUT":
                refused = front.answer(self.path.lstrip("/"), self.headers["If-Match"], self.headers["If-None-Match"])
            if refused:
                status, code = refused
                text = f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode()
                self._reply(status, {"Content-Type": "application/xml"}, text)
                return
            behind = HTTPConnection("127.0.0.1", front.behind.port)
            behind.request(self.command, self.path, body, dict(self.headers))
            answer = behind.getresponse()
            headers = {name: value for name, value in answer.getheaders() if name not in ("Transfer-Encoding",)}
            self._reply(answer.status, headers, answer.read())
            behind.close()

        def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            headers.setdefault("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _go_on  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
