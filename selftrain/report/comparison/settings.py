"""Settings of two runs: those that differ, by dotted name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

NOT_SET = "not set"


@dataclass(frozen=True)
class SettingChange:
    """A setting that is `first` in run A and `second` in run B, as text."""

    name: str
    first: str
    second: str


def changed_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[SettingChange, ...]:
    """The settings that differ, by name.

    >>> changed_settings({"seed": 0, "gate": {"target": 0.9}}, {"seed": 0, "gate": {"target": 0.95, "metric": "map"}})
    (SettingChange(name='gate.metric', first='not set', second='map'), \
SettingChange(name='gate.target', first='0.9', second='0.95'))
    """
    one, other = dict(_flat(first)), dict(_flat(second))
    pairs = ((name, one.get(name, NOT_SET), other.get(name, NOT_SET)) for name in sorted(one.keys() | other.keys()))
    return tuple(SettingChange(*each) for each in pairs if each[1] != each[2])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, default=str)
