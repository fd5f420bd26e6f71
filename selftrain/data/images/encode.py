"""Encoding: a picture as the bytes of a PNG file."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt


def encode_png(picture: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    """The PNG of `picture`, uint8 (height, width) or (height, width, 3 or 4), or uint16 (height, width)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
