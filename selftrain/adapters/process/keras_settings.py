"""Keras's settings: which backend it is told to use, and by which file or variable; asked before Keras is loaded."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path

from selftrain.errors import ConfigError

BACKENDS = ("tensorflow", "jax", "torch")
_VARIABLE = "KERAS_BACKEND"


def check_backend(environment: Mapping[str, str] = os.environ) -> None:
    """Raise ConfigError where Keras is told to use a backend that selftrain does not know, or that is not installed."""
    name, told_by = backend_of(environment)
    if name not in BACKENDS:
        raise ConfigError(
            f"{told_by} sets Keras's backend to {name!r}; allowed are {', '.join(BACKENDS)}. Correct it there, or set "
            f"{_VARIABLE}=tensorflow"
        )
    if importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"{told_by} sets Keras's backend to {name!r}, which is not installed here. Install it, or set "
            f"{_VARIABLE}=tensorflow"
        )


def backend_of(environment: Mapping[str, str]) -> tuple[str, str]:
    """The backend that Keras will load, and the variable or file that says so; tensorflow where nothing does.

    >>> backend_of({"KERAS_BACKEND": "jax"})
    ('jax', 'KERAS_BACKEND')
    """
    if environment.get(_VARIABLE):
        return environment[_VARIABLE], _VARIABLE
    file = keras_file(environment)
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}  # Keras passes over such a file too
    named = settings.get("backend") if isinstance(settings, dict) else None
    return (str(named), str(file)) if named else ("tensorflow", "Keras")


def keras_file(environment: Mapping[str, str]) -> Path:
    """The `keras.json` that Keras reads when it is loaded."""
    return Path(environment.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json"
