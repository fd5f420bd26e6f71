"""A bucket: a real S3 server on this machine, over a folder that the caller fills; it refuses wrong keys."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

KEY, SECRET = "camera", "film-and-light"


@dataclass
class BucketServer:
    """The server; `folder` holds a folder for each bucket."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, str]:
        """What opens its buckets."""
        return {"endpoint_url": self.endpoint, "key": KEY, "secret": SECRET}

    def start(self) -> None:
        """Serve, and wait until a connection is taken."""
        command = [str(Path(sys.executable).parent / "rclone"), "serve", "s3", str(self.folder)]
        options = ["--addr", f"127.0.0.1:{self.port}", "--auth-key", f"{KEY},{SECRET}", "--dir-cache-time", "0s"]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError("rclone does not serve")

    def stop(self) -> None:
        """End the server."""
        if self.process:
            self.process.kill()
            self.process.wait()


def served(folder: Path) -> BucketServer:
    """A started server over `folder`, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server = BucketServer(folder, port)
    server.start()
    return server
