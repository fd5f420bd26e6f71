"""Arguments of a call, checked as the configuration checks its keys."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from selftrain.config import Section
from selftrain.errors import ConfigError

S = TypeVar("S", bound=Section)


def checked(section: type[S], **arguments: object) -> S:
    """A `section` of `arguments`. Raises ConfigError naming the argument, what came in and what is allowed."""
    try:
        return section.model_validate(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        allowed = first["msg"].replace("Input should", "it should")
        raise ConfigError(f"{where} is {first['input']!r}; {allowed}") from error
