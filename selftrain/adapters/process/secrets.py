"""Secrets: a value behind a reference. The configuration holds references only."""

from __future__ import annotations

import os
from pathlib import Path

from selftrain.errors import ConfigError


def resolve(reference: str) -> str:
    """The secret that `reference` names: `env:NAME`, `file:/absolute/path` or `zenml:SECRET.KEY`.

    White space at the end of a file is left out. Raises ConfigError, which names the reference and never a value.
    """
    kind, _, place = reference.partition(":")
    match kind:
        case "env":
            value = os.environ.get(place, "")
        case "file":
            value = _in_file(reference, Path(place))
        case "zenml":
            value = _in_zenml(reference, *place.rsplit(".", 1))
        case _:
            raise ConfigError("a secret's reference is env:NAME, file:/absolute/path or zenml:SECRET.KEY")
    if not value:
        raise ConfigError(f"the secret {reference} is not set, or is empty; set it, or change the reference")
    return value


def _in_file(reference: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"the secret {reference} cannot be read: {reason}; name a text file that you can read"
        ) from None


def _in_zenml(reference: str, name: str, key: str = "") -> str:
    from zenml.client import Client

    try:
        return str(Client().get_secret(name).secret_values[key])
    except (KeyError, NotImplementedError) as error:
        raise ConfigError(
            f"the secret {reference} is not in ZenML's store; make it with `zenml secret create {name} --{key}=...`"
        ) from error
