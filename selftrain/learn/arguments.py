"""Arguments of a call, checked as the configuration checks its keys."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
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


def check_image_size(image_size: object) -> None:
    """Raise ConfigError for what is no number of pixels a side."""
    if isinstance(image_size, bool) or not isinstance(image_size, int | np.integer) or image_size < 1:
        raise ConfigError(f"image_size is {image_size!r}; give pixels a side, such as 32")
