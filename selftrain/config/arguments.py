"""Arguments of a call, checked as the configuration checks its keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from selftrain.config.section import Section
from selftrain.errors import ConfigError

S = TypeVar("S", bound=Section)


def checked(section: type[S], **arguments: object) -> S:
    """`arguments` as a `section`. Raises ConfigError naming the argument, what came in and what is allowed."""
    try:
        return section.model_validate(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        allowed = first["msg"].replace("Input should", "it should")
        raise ConfigError(f"{where} is {first['input']!r}; {allowed}") from error


def as_section(section: type[S], value: object, *, name: str) -> S:
    """The argument `name` as a `section`: itself, or a mapping of its keys. Raises ConfigError for anything else.

    >>> from selftrain.config import Distillation
    >>> as_section(Distillation, {"temperature": 2.0}, name="recipe").temperature
    2.0
    """
    if isinstance(value, section):
        return value
    if isinstance(value, Mapping):
        return checked(section, **value)
    raise ConfigError(f"{name} is {value!r}; give a selftrain.config.{section.__name__}, or a mapping of its keys")


def names_of(class_names: object, *, each: str) -> tuple[str, ...]:
    """`class_names` as a tuple of distinct names. Else raises ConfigError, which asks for a name for `each`."""
    ask = f"give a list with a name for {each}, or None"
    if isinstance(class_names, str | bytes) or not isinstance(class_names, Iterable):
        raise ConfigError(f"class_names is {class_names!r}; {ask}")
    names = tuple(class_names)
    if not names:
        raise ConfigError(f"class_names is empty; {ask}")
    for row, name in enumerate(names):
        if not isinstance(name, str):
            raise ConfigError(f"class_names: {name!r} (row {row}) is not text; {ask}")
        if name in names[:row]:
            raise ConfigError(f"class_names: {name!r} (row {row}) is there twice; give each class its own name")
    return names


def checked_bits(bits: object) -> int | None:
    """`bits` as how many of 16 bits grey pictures fill; None: all. Raises ConfigError unless it is from 8 to 16."""
    if bits is None:
        return None
    if isinstance(bits, bool) or not isinstance(bits, int | np.integer) or not 8 <= bits <= 16:
        raise ConfigError(f"bits is {bits!r}; give how many of 16 bits grey pictures fill, from 8 to 16, such as 12")
    return int(bits)


def check_image_size(image_size: object) -> None:
    """Raise ConfigError unless `image_size` is a number of pixels per side."""
    if isinstance(image_size, bool) or not isinstance(image_size, int | np.integer) or image_size < 1:
        raise ConfigError(f"image_size is {image_size!r}; give pixels per side, such as 32")
