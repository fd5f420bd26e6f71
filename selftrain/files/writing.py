"""TODO-DOC selftrain.files.writing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a new file beside `path`, then rename it there: a reader sees the old or the new, whole."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
