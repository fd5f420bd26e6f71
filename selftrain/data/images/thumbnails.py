"""Thumbnails: small pictures as data URIs, for a page that must hold all that it shows."""

from __future__ import annotations

import base64
import io

from selftrain.data.images.decode import decode

SIDE = 96
QUALITY = 72


def thumbnail(data: bytes, *, side: int = SIDE, quality: int = QUALITY, bits: int | None = None) -> str:
    """The image file `data` as a WebP data URI, cropped to a square of `side` pixels.

    `bits` is how many of 16 bits a grey picture fills. Raises ImageError where the file cannot be decoded.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(decode(data, side, lenient=True, bits=bits)).save(buffer, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
