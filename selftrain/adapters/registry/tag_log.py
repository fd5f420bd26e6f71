"""Tag logs: append-only logs kept as MLflow tags, one tag per line, written once and never changed."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel

Line = TypeVar("Line", bound=BaseModel)


def lines(tags: Mapping[str, str], prefix: str, kind: type[Line]) -> list[Line]:
    """The lines of the log whose tags begin with `prefix`, oldest first."""
    return [kind.model_validate_json(tags[key]) for key in sorted(tags) if key.startswith(prefix)]


def new_key(prefix: str, number: int) -> str:
    """The tag of line `number`; two writers at once may share a number, never a tag."""
    return f"{prefix}{number:06d}.{secrets.token_hex(4)}"


def now() -> str:
    """When a line is written: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
