"""Secrets: what a reference in the configuration stands for, read when it is needed and never written."""

from __future__ import annotations

import os
from pathlib import Path

from selftrain.errors import SecretError

ALLOWED = "env:NAME, file:/absolute/path or zenml:SECRET.KEY"


def resolve(reference: str) -> str:
    """The value behind `reference`: env:NAME, file:/absolute/path (its text without the last line break), or
    zenml:SECRET.KEY.

    Raises SecretError, which names the reference and never a value.
    """
    kind, _, place = reference.partition(":")
    match kind:
        case "env":
            value = _of_environment(reference, place)
        case "file":
            value = _of_file(reference, place)
        case "zenml":
            value = _of_zenml(reference, place)
        case _:
            raise SecretError(f"a secret is not a reference; allowed are {ALLOWED}")
    if not value:
        raise SecretError(f"the secret {reference!r} is empty; give it a value")
    return value


def _of_environment(reference: str, name: str) -> str:
    if name not in os.environ:
        raise SecretError(f"the secret {reference!r} is not set; set {name} in the environment of this process")
    return os.environ[name]


def _of_file(reference: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SecretError(f"the secret {reference!r} cannot be read ({reason}); correct the path or the file") from None


def _of_zenml(reference: str, place: str) -> str:
    from zenml.client import Client

    name, _, key = place.partition(".")
    try:
        values = Client().get_secret(name, allow_partial_name_match=False).secret_values
    except Exception as error:  # not there, no rights, no server: ZenML has an error for each
        raise SecretError(
            f"the secret {reference!r} is not to be had from ZenML ({type(error).__name__}); "
            f"see `zenml secret list`, or create it"
        ) from None
    if key not in values:
        raise SecretError(f"the secret {reference!r} has no key {key!r}; its keys are {', '.join(sorted(values))}")
    return str(values[key])
