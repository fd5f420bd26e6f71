"""A served review page, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Page:
    """A served review: its process and address."""

    process: subprocess.Popen[str]
    address: str
    since: int = 0

    @property
    def host(self) -> str:
        return urlsplit(self.address).netloc

    @property
    def path(self) -> str:
        return urlsplit(self.address).path

    @property
    def token(self) -> str:
        return self.path.strip("/")

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        found = reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
        connection.close()
        return found

    def queue(self) -> dict[str, Any]:
        status, _, body = self.ask("GET", f"{self.path}queue?from=0")
        assert status == 200, body
        return dict(json.loads(body))

    def ids(self) -> list[str]:
        return [each["image_id"] for each in self.queue()["questions"]]

    def post(self, what: str, images: list[str], label: str, who: str = "anna") -> list[dict[str, Any]]:
        body = json.dumps({"images": images, "label": label, "who": who, "since": 0})
        headers = {"Content_Type": "application/json", "X_Review_Token": self.token}
        status, _, answer = self.ask("POST", f"{self.path}{what}", body, **headers)
        assert status == 200, answer
        return list(json.loads(answer)["news"])
