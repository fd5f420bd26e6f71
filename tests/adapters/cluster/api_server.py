"""A server on loopback that answers as Kubernetes' API does: objects with resource versions, and conflicts.

It holds what it was given, and checks nothing but that. Tests put objects into `objects` and read them there.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]
VERSION = {"major": "1", "minor": "32", "gitVersion": "v1.32.0", "gitCommit": "", "gitTreeState": "", "buildDate": ""}
VERSION |= {"goVersion": "", "compiler": "", "platform": "linux/amd64"}


class Api:
    """The state behind the server."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}  # by path
        self.refused: set[str] = set()  # 'verb resource' that the caller may not; paths that answer 403
        self.skew_s = 0.0
        self.down = False
        self.calls: list[str] = []
        self._lock = threading.Lock()
        self._version = 0

    def put(self, path: str, thing: Object) -> Object:
        """Store `thing` at `path` under a new resource version."""
        self._version += 1
        thing.setdefault("metadata", {})["resourceVersion"] = str(self._version)
        thing["metadata"].setdefault("name", path.rsplit("/", 1)[1])
        self.objects[path] = json.loads(json.dumps(thing))
        return self.objects[path]

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Object | None) -> tuple[int, Object]:
        """Status and object that answer a request."""
        with self._lock:
            self.calls.append(f"{method} {path}")
            if self.down:
                return 503, refusal(503, "ServiceUnavailable")
            if path in self.refused:
                return 403, refusal(403, "Forbidden")
            if path == "/version":
                return 200, VERSION
            if body is not None and path.endswith("selfsubjectaccessreviews"):
                return 201, self._review(body)
            match method:
                case "GET":
                    return self._get(path, query)
                case "POST" if body is not None:
                    return self._create(path, body)
                case "PUT" if body is not None:
                    return self._replace(path, body)
                case "DELETE":
                    there = self.objects.pop(path, None)
                    return (200, there) if there else (404, refusal(404, "NotFound"))
            return 405, refusal(405, "MethodNotAllowed")

    def _review(self, body: Object) -> Object:
        asked = body["spec"]["resourceAttributes"]
        name = f"{asked['verb']} {asked['resource']}" + (f"/{asked['subresource']}" if "subresource" in asked else "")
        return {**body, "status": {"allowed": name not in self.refused}}

    def _get(self, path: str, query: dict[str, list[str]]) -> tuple[int, Object]:
        if path in self.objects:
            return 200, self.objects[path]
        items = [each for at, each in sorted(self.objects.items()) if at.rsplit("/", 1)[0] == path]
        last = path.rsplit("/", 1)[1]
        if not items and last not in ("nodes", "jobs", "events", "pods", "cronjobs", "secrets"):
            return 404, refusal(404, "NotFound")
        for term in filter(None, query.get("labelSelector", [""])[0].split(",")):
            key, _, value = term.partition("=")
            items = [each for each in items if each["metadata"].get("labels", {}).get(key) == value]
        return 200, {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}

    def _create(self, path: str, body: Object) -> tuple[int, Object]:
        at = f"{path}/{body['metadata']['name']}"
        if at in self.objects:
            return 409, refusal(409, "AlreadyExists")
        return 201, self.put(at, body)

    def _replace(self, path: str, body: Object) -> tuple[int, Object]:
        there = self.objects.get(path)
        if there is None:
            return 404, refusal(404, "NotFound")
        if body["metadata"].get("resourceVersion") not in (None, there["metadata"]["resourceVersion"]):
            return 409, refusal(409, "Conflict")
        return 200, self.put(path, body)


def refusal(code: int, reason: str) -> Object:
    """Kubernetes' own form of an error."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "code": code,
        "message": reason,
    }


@contextmanager
def served(folder: Path) -> Iterator[tuple[Api, Path]]:
    """An API that is served while the block runs, and the kubeconfig that leads to it, written into `folder`."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: the client would wait 40 ms for the second

        def _reply(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, thing = api.answer(self.command, url.path.rstrip("/"), parse_qs(url.query), body)
            data = json.dumps(thing).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def date_time_string(self, timestamp: float | None = None) -> str:
            import time

            return formatdate((timestamp or time.time()) + api.skew_s, usegmt=True)

        do_GET = do_POST = do_PUT = do_DELETE = _reply  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield api, kubeconfig(folder, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(folder: Path, address: str) -> Path:
    """A kubeconfig in `folder` whose context `loopback` is current, and leads to `address`."""
    path = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "loopback", "cluster": {"server": address}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "loopback", "context": {"cluster": "loopback", "user": "me"}}],
        "current-context": "loopback",
    }
    path.write_text(yaml.safe_dump(content))
    return path
