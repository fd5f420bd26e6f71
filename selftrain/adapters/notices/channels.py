"""Channels: the ways to people. Each delivers a message or raises `NotDeliveredError`, which holds no secret."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING

from selftrain.adapters.process.console import logs_to_stderr
from selftrain.adapters.process.settings import stack_is_set

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

    from zenml.alerter import BaseAlerter

OK = range(200, 300)


class NotDeliveredError(Exception):
    """A notice did not arrive. The text says why in one line, without the secret."""


def post(url: str, message: Mapping[str, object], *, timeout_s: float) -> None:
    """POST `message` as JSON to `url`. Any answer but 2xx is a failure; a redirect is not followed."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request

    if not url.startswith(("https://", "http://")):
        raise NotDeliveredError("the webhook is not an http:// or https:// URL")
    body = json.dumps(message).encode()
    try:
        request = Request(url, data=body, headers={"Content-Type": "application/json"}, method="POST")
        with _opener().open(request, timeout=timeout_s) as answer:
            status = answer.status
    except HTTPError as error:
        error.close()
        status = error.code
    except TimeoutError:
        raise NotDeliveredError(f"the webhook did not answer within {timeout_s:g} s") from None
    except URLError as error:
        raise NotDeliveredError(f"the webhook cannot be reached: {_reason(error.reason)}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise NotDeliveredError(f"the webhook cannot be reached: {_reason(error)}") from None
    if status not in OK:
        raise NotDeliveredError(f"the webhook answered {status}")


def hand_to(command: str, message: Mapping[str, object], *, timeout_s: float) -> None:
    """Run `command` without a shell, with `message` as JSON on its standard input.

    It and its children are ended after `timeout_s`.
    """
    try:
        parts = shlex.split(command)
        process = subprocess.Popen(parts, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    except (OSError, ValueError) as error:
        raise NotDeliveredError(f"the command cannot be started: {_reason(error)}") from None
    try:
        process.communicate(json.dumps(message).encode(), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise NotDeliveredError(f"the command did not end within {timeout_s:g} s and was ended") from None
    if process.returncode != 0:
        raise NotDeliveredError(f"the command ended with {process.returncode}")


def alerter_of_stack() -> BaseAlerter | None:
    """The alerter of ZenML's active stack; None where it has none, or ZenML was never used."""
    if not stack_is_set():
        return None
    from zenml.alerter import BaseAlerter
    from zenml.client import Client
    from zenml.enums import StackComponentType

    logs_to_stderr()
    found = Client().active_stack_model.components.get(StackComponentType.ALERTER)
    return BaseAlerter.from_model(found[0]) if found else None


def tell(alerter: BaseAlerter, text: str) -> None:
    """Post `text` with an alerter of ZenML."""
    if not alerter.post(text):
        raise NotDeliveredError(f"the alerter {alerter.name!r} did not post")


def _opener() -> OpenerDirector:
    from urllib.request import HTTPRedirectHandler, build_opener

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    return build_opener(Stay)


def _reason(error: object) -> str:
    """Why, in the system's words. Never the text of an error in general: that may quote the URL."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
