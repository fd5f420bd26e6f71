"""A real Chromium without a screen, driven over its DevTools protocol: keys as a person presses them."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REVIEW_IS_THERE = "document.getElementById('count')?.textContent.includes('answered')"


class Browser:
    """Chromium with its profile in `folder`; it shows `address`, and `requests` lists whatever it asked for.

    The page is there once the expression `ready` is true.
    """

    def __init__(self, folder: Path, address: str, *, ready: str = REVIEW_IS_THERE) -> None:
        import websocket

        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "about:blank"]
        command += [f"--user-data-dir={folder}", "--remote-debugging-port=0", "--window-size=1280,900"]
        command += ["--remote-allow-origins=*"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        chosen = folder / "DevToolsActivePort"
        until(lambda: chosen.exists() and len(chosen.read_text().splitlines()) == 2, "Chromium does not start")
        port = chosen.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as reply:
            target = next(each for each in json.load(reply) if each["type"] == "page")
        self.socket = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=30)
        self.number = 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)
        self.until(ready)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            self._note(message)
            if message.get("id") == self.number:
                assert "error" not in message, message
                return dict(message["result"])

    def _note(self, message: dict[str, Any]) -> None:
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            case "Runtime.exceptionThrown" | "Page.javascriptDialogOpening":
                self.complaints.append(json.dumps(message["params"]))
            case "Log.entryAdded" if message["params"]["entry"]["source"] in ("security", "violation", "javascript"):
                self.complaints.append(message["params"]["entry"]["text"])

    def value(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str) -> None:
        until(lambda: bool(self.value(expression)), expression)

    def press(self, key: str) -> None:
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, " ": 32, "ArrowRight": 39, "ArrowDown": 40, "ArrowLeft": 37, "Tab": 9}.get(key, 0)
        common = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def saved(self) -> None:
        self.until("state.waiting.length === 0 && !state.sending")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()


def until(true: Any, what: str, *, timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)
