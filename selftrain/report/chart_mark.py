"""The mark of every chart drawn by selftrain; a picture without it is the user's own."""

from __future__ import annotations

from pathlib import Path

DRAWN_BY = "selftrain"  # the PNG entry "Software" of every chart


def is_our_chart(path: Path) -> bool:
    """Whether `path` is a PNG that selftrain drew and may replace."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get("Software") == DRAWN_BY
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
