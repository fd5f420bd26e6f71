"""The message of a notice: one sentence for people, and the facts for programs."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import assert_never

from selftrain.config.production import Event

Fact = str | int | float | None
SHOWN = 4
"""Significant digits of a fraction in the sentence; the facts hold all of them."""


def payload(event: Event, facts: Mapping[str, Fact]) -> dict[str, object]:
    """What is sent, as JSON values. Slack shows `text`; Teams takes the whole as a message card.

    >>> payload("promoted", {"experiment": "pets", "version": 3})["text"]
    'selftrain: pets: version 3 is the new champion (experiment=pets, version=3)'
    """
    text = sentence(event, facts)
    card = {"@type": "MessageCard", "@context": "https://schema.org/extensions", "summary": text}
    return {**card, "text": text, "event": event, "facts": {key: _plain(value) for key, value in facts.items()}}


def for_chat(message: Mapping[str, object]) -> dict[str, object]:
    """`message` with a sentence that a chat shows as it is: a name such as "<!channel>" in it calls nobody."""
    text = html.escape(str(message["text"]), quote=False)
    return {**message, "summary": text, "text": text}


def sentence(event: Event, facts: Mapping[str, Fact]) -> str:
    """`event` in words, with every fact that is known, in one line."""
    known = ", ".join(f"{key}={_shown(value)}" for key, value in facts.items() if value is not None)
    name = facts.get("experiment")
    whose = f"{_shown(name)}: " if name is not None else ""
    return f"selftrain: {whose}{_meaning(event, facts)}" + (f" ({known})" if known else "")


def _meaning(event: Event, facts: Mapping[str, Fact]) -> str:
    version = facts.get("version")
    model = f"version {_shown(version)}" if version is not None else "the model"
    match event:
        case "due":
            return "a retraining is due"
        case "started":
            return "a retraining started"
        case "passed":
            return "a run passed its gate"
        case "refused":
            return f"{model} was not promoted"
        case "promoted":
            return f"{model} is the new champion"
        case "rolled_back":
            return f"{model} is champion again"
        case "failed":
            return "a run failed"
        case "stopped":
            return "retraining stopped after failures in a row, and waits for `selftrain retrain --resume`"
        case "quarantine":
            return "more images than allowed are unusable"
        case _:
            assert_never(event)


def _plain(value: Fact) -> Fact:
    """`value` as JSON has it: it knows no NaN and no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _shown(value: Fact) -> str:
    text = f"{value:.{SHOWN}g}" if isinstance(value, float) else str(value)
    return " ".join(text.split())
