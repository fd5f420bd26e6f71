"""A real S3 server on this machine, over a folder, with one key that may be changed."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class S3Server:
    """`rclone serve s3` on a port of its own; a request with another key is refused."""

    folder: Path
    port: int = field(default_factory=lambda: _free_port())
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """What a client needs beside its key."""
        return {"AWS_ENDPOINT_URL": self.address, "AWS_DEFAULT_REGION": "us-east-1"}

    def start(self, key: str, secret: str) -> None:
        """Start, or start again with this key alone, at the same address."""
        self.stop()
        program = Path(sys.executable).with_name("rclone")
        command = [program, "serve", "s3", "--auth-key", f"{key},{secret}", "--addr", f"127.0.0.1:{self.port}"]
        self._process = subprocess.Popen([*command, self.folder], stderr=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError("the S3 server did not start in 10 seconds")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def bucket(folder: Path) -> Iterator[S3Server]:
    """A server over `folder` with the bucket "data", whose key is "camera" and secret "film"."""
    (folder / "data").mkdir()
    server = S3Server(folder)
    server.start("camera", "film")
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
