"""Places: where results may be written, checked before the work that makes them."""

from __future__ import annotations

import os
from pathlib import Path

from selftrain.errors import ConfigError

DRAWN_BY = "selftrain"  # the entry Software of every chart; one without it is somebody else's picture


def check_folder(folder: Path, *, option: str) -> None:
    """Raise ConfigError unless `folder` can be written to, or be made where it is not there; `option` gave it."""
    there = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), Path())
    if not there.is_dir():
        raise ConfigError(f"{folder} cannot be a folder: {there} is none; give another {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{there} cannot be written to; make it writable, or give another {option}")


def is_our_chart(path: Path) -> bool:
    """Whether `path` is a PNG that we drew and may replace."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get("Software") == DRAWN_BY
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
