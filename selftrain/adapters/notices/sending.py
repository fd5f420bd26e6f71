"""Sending notices: each channel is tried once, and how that went is recorded. Nothing here fails a run."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic

from selftrain.adapters.notices import channels
from selftrain.adapters.notices.channels import NotDeliveredError
from selftrain.adapters.notices.message import Fact, for_chat, payload
from selftrain.adapters.process.secrets import resolve
from selftrain.config.production import Event, Notify
from selftrain.errors import ConfigError, SelftrainError

Message = Mapping[str, object]
Channel = Callable[[Message, float], bool]
"""Delivers a message within so many seconds. False: there is nobody to tell."""


def notify(event: Event, facts: Mapping[str, Fact], *, settings: Notify, record: Path) -> None:
    """Tell people of `event`, over every channel of `settings`, and append how that went to `record`.

    `record` is a file of JSON lines, one per channel: when, event, facts, channel, delivered, error, seconds. A secret
    is never in it. An event that `settings.events` leaves out is neither told nor recorded. Nothing is raised: a
    channel that fails, hangs or is set up wrongly is a line with an error.
    """
    if event not in settings.events:
        return
    message = payload(event, facts)
    for name, channel in _channels(settings):
        began, when = monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
        tried, error = _outcome(partial(channel, message, settings.timeout_s))
        if tried:
            told = {"when": when, "event": event, "facts": message["facts"], "channel": name}
            ended = {"delivered": error is None, "error": error, "seconds": round(monotonic() - began, 3)}
            _append(record, {**told, **ended})


def check_command(settings: Notify) -> None:
    """Raise ConfigError if the program of `notify.command` is not on this machine: nobody would hear of anything."""
    if settings.command is None:
        return
    program = shlex.split(settings.command)[0]
    if shutil.which(program) is None:
        raise ConfigError(
            f"notify.command starts {program!r}, which is not a program on this machine; install it, give its whole "
            "path, or remove the key"
        )


def _channels(settings: Notify) -> Iterator[tuple[str, Channel]]:
    if settings.webhook is not None:
        yield "webhook", partial(_to_webhook, settings.webhook)
    if settings.command is not None:
        yield "command", partial(_to_command, settings.command)
    if settings.alerter:
        yield "alerter", _to_alerter


def _to_webhook(reference: str, message: Message, timeout_s: float) -> bool:
    url = resolve(reference).strip()
    _within(timeout_s, partial(channels.post, url, for_chat(message), timeout_s=timeout_s))
    return True


def _to_command(command: str, message: Message, timeout_s: float) -> bool:
    channels.hand_to(command, message, timeout_s=timeout_s)
    return True


def _to_alerter(message: Message, timeout_s: float) -> bool:
    alerter = channels.alerter_of_stack()
    if alerter is None:
        return False
    _within(timeout_s, partial(channels.tell, alerter, str(message["text"])))
    return True


def _outcome(attempt: Callable[[], bool]) -> tuple[bool, str | None]:
    """Whether the channel was tried, and what went wrong. Only our own errors are quoted: others may hold a secret."""
    try:
        return attempt(), None
    except NotDeliveredError as error:
        return True, str(error)
    except SelftrainError as error:
        return True, error.message
    except Exception as error:  # whatever a library raises, the run goes on
        return True, type(error).__name__


def _within(seconds: float, call: Callable[[], None]) -> None:
    """Let `call` run for `seconds`, then leave it behind: a server that answers a byte at a time never times out."""
    raised: list[Exception] = []

    def guarded() -> None:
        try:
            call()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise NotDeliveredError(f"no answer within {seconds:g} s")
    if raised:
        raise raised[0]


def _append(record: Path, line: Mapping[str, object]) -> None:
    """Append `line` in one write. A record that cannot be written is only logged."""
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, f"{json.dumps(line)}\n".encode())
        finally:
            os.close(file)
    except OSError as error:
        logging.getLogger(__name__).warning("the notice is not recorded in %s: %s", record, error.strerror)
