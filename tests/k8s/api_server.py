"""A Kubernetes API on loopback: a Cluster over HTTP, for kubectl, the Python client and what is built on them.

It answers create, get, list, watch, replace, patch, delete, the subresources status, log and eviction, reviews of
one's own access, the version and discovery. It asks RBAC's question before each, and keeps what was asked.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml

from tests.k8s.access import Attempt
from tests.k8s.certificate import made
from tests.k8s.cluster import ApiError, Cluster
from tests.k8s.resources import PODS, RESOURCES, Resource, discovered

VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
REVIEWS = "selfsubjectaccessreviews"


@dataclass(frozen=True)
class Target:
    """What a path names: a resource, or one of its objects, or a part of that."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    part: str = ""


@dataclass
class ApiServer:
    """The server. `asked` holds every attempt with whether it was allowed.

    `may` decides: by default everybody may do everything. A client's bearer token is its user name, or it asks at
    `address(user)`. Groups follow the name after a bar, as in `ann|selftrain-submitters|others`.
    """

    cluster: Cluster = field(default_factory=Cluster)
    may: Callable[[Attempt], bool] = lambda attempt: True
    asked: list[tuple[Attempt, bool]] = field(default_factory=list)

    def __enter__(self) -> ApiServer:
        outer = self

        class Handler(_Handler):
            server_ = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._https = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.certificate = made()
        context = self.certificate.server_context()
        # The handshake is left to the thread of each connection.
        self._https.socket = context.wrap_socket(self._https.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        for server in (self._http, self._https):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in (self._http, self._https):
            server.shutdown()
            server.server_close()

    @property
    def secure_port(self) -> int:
        """The port with TLS, which pods use: their library takes nothing else."""
        return int(self._https.server_address[1])

    @property
    def refused(self) -> list[Attempt]:
        return [attempt for attempt, allowed in self.asked if not allowed]

    def kubeconfig(self, path: Path, *users: str, namespace: str = "selftrain") -> Path:
        """Write a kubeconfig with a context for each user, of the user's name before the bar; the first is current.

        kubectl sends no token where there is no TLS, so the user stands in the address as well.
        """
        names = {user: user.split("|")[0] for user in users}
        clusters = [{"name": name, "cluster": {"server": self.address(user)}} for user, name in names.items()]
        contexts = [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}
            for name in names.values()
        ]
        whole = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": clusters,
            "users": [{"name": name, "user": {"token": user}} for user, name in names.items()],
            "contexts": contexts,
            "current-context": names[users[0]],
        }
        path.write_text(yaml.safe_dump(whole))
        return path

    def address(self, user: str) -> str:
        """The server's address for one user, who needs no token there."""
        return f"{self.url}/as/{quote(user, safe='')}"

    def ask(self, attempt: Attempt) -> bool:
        answer = self.may(attempt)
        self.asked.append((attempt, answer))
        return answer


class _Handler(BaseHTTPRequestHandler):
    server_: ApiServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: `asked` has it."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names that http.server looks for

    def _answer(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        try:
            body = json.loads(self.rfile.read(length) or b"{}") if length else {}
            self._route(self._path(url.path), query, body)
        except ApiError as error:
            self._send(error.code, _status(error))
        except json.JSONDecodeError:
            self._send(415, _status(ApiError(415, "UnsupportedMediaType", "the body must be JSON")))

    def _route(self, path: list[str], query: dict[str, str], body: Any) -> None:
        if path[-1] == REVIEWS:
            self._send(201, self._review(body))
        elif (found := discovered(path)) is not None:
            self._send(200, found)
        else:
            self._act(target_of(path), query, body)

    def _path(self, path: str) -> list[str]:
        """The parts of a path, without the user that may stand before it."""
        parts = path.strip("/").split("/")
        self._named = unquote(parts[1]) if parts[0] == "as" else ""
        return parts[2:] if self._named else parts

    def _who(self) -> tuple[str, tuple[str, ...]]:
        said = self._named or re.sub("^bearer ", "", self.headers.get("Authorization", ""), flags=re.IGNORECASE)
        user, *groups = said.split("|")
        if not user:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        return user, (*groups, "system:authenticated")

    def _review(self, body: Any) -> Any:
        user, groups = self._who()
        asked = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked.get("resource"), asked.get("subresource"))))
        attempt = Attempt(
            user,
            asked["verb"],
            asked.get("group", ""),
            resource,
            asked.get("namespace", ""),
            asked.get("name", ""),
            groups,
        )
        return {**body, "status": {"allowed": self.server_.may(attempt)}}

    def _act(self, target: Target, query: dict[str, str], body: Any) -> None:
        verb = verb_of(self.command, target, query)
        user, groups = self._who()
        named = "/".join(filter(None, (target.resource.plural, target.part)))
        attempt = Attempt(user, verb, target.resource.group, named, target.namespace, target.name, groups)
        if not self.server_.ask(attempt):
            raise ApiError(
                403, "Forbidden", f'User "{user}" cannot {verb} resource "{named}" in API group "{attempt.group}"'
            )
        if verb == "watch":
            self._watch(target, query)
        elif target.part == "log":
            self.server_.cluster.get(PODS, target.name, target.namespace)
            self._send_bytes(200, self.server_.cluster.log_of(target.namespace, target.name), "text/plain")
        else:
            self._send(201 if verb == "create" else 200, carried_out(self.server_.cluster, verb, target, query, body))

    def _watch(self, target: Target, query: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        since = int(query["resourceVersion"]) if query.get("resourceVersion", "0") != "0" else None
        changes = self.server_.cluster.watch(
            target.resource,
            target.namespace,
            since=since,
            timeout_s=float(query.get("timeoutSeconds", 60)),
            labels=query.get("labelSelector", ""),
            fields=query.get("fieldSelector", _by_name(target)),
        )
        try:
            for change in changes:
                line = json.dumps({"type": change.type, "object": change.object}).encode() + b"\n"
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _send(self, code: int, value: Any) -> None:
        self._send_bytes(code, json.dumps(value).encode(), "application/json")

    def _send_bytes(self, code: int, content: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def target_of(path: list[str]) -> Target:
    """What a path such as `apis/batch/v1/namespaces/selftrain/jobs/a/status` names. Errors: 404."""
    group, rest = ("", path[2:]) if path[0] == "api" else (path[1] if len(path) > 1 else "", path[3:])
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and (group, rest[2]) in RESOURCES:
        namespace, rest = rest[1], rest[2:]
    resource = RESOURCES.get((group, rest[0] if rest else ""))
    if resource is None:
        raise ApiError(404, "NotFound", f"the server could not find /{'/'.join(path)}")
    name, part = (*rest[1:], "", "")[:2]
    return Target(resource, namespace, name, part)


def verb_of(method: str, target: Target, query: dict[str, str]) -> str:
    """RBAC's verb for a request."""
    verb = VERBS[method]
    if verb == "get" and query.get("watch") in ("true", "1", "True"):
        return "watch"
    if not target.name:
        return {"get": "list", "delete": "deletecollection"}.get(verb, verb)
    return verb


def carried_out(cluster: Cluster, verb: str, target: Target, query: dict[str, str], body: Any) -> Any:
    """Do what was asked, and give what the API answers."""
    resource, namespace, name = target.resource, target.namespace, target.name
    chosen = {"labels": query.get("labelSelector", ""), "fields": query.get("fieldSelector", "")}
    options = {**query, **body} if verb.startswith("delete") else {}
    how = {
        "propagation": options.get("propagationPolicy") or "Background",
        "grace_s": _seconds(options.get("gracePeriodSeconds")),
    }
    match verb:
        case "create" if target.part == "eviction":
            cluster.evict(name, namespace)
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        case "create":
            return cluster.create(resource, body, namespace)
        case "get":
            return cluster.get(resource, name, namespace)
        case "list":
            items = cluster.list(resource, namespace, **chosen)
            version = {"resourceVersion": str(cluster.version)}
            return {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.api_version,
                "metadata": version,
                "items": items,
            }
        case "update":
            return cluster.replace(resource, name, body, namespace, part=target.part)
        case "patch":
            return cluster.patch(resource, name, body, namespace, part=target.part)
        case "delete":
            return cluster.delete(resource, name, namespace, **how)
        case _:
            for each in cluster.list(resource, namespace, **chosen):
                cluster.delete(resource, each["metadata"]["name"], each["metadata"].get("namespace", ""), **how)
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}


def _status(error: ApiError) -> Any:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
    }


def _seconds(value: Any) -> int | None:
    return None if value in (None, "") else int(value)


def _by_name(target: Target) -> str:
    return f"metadata.name={target.name}" if target.name else ""
