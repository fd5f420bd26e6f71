"""Thumbnails: small pictures as data URIs, for a page that must hold all that it shows."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from selftrain.data.images.decode import decode
from selftrain.data.images.formats import sniff
from selftrain.data.images.openers import opener_of
from selftrain.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

SIDE = 96
QUALITY = 72
MOST_LEFT = 50_000_000
"""Pixels of the largest unusable image that is shown."""


def thumbnail(data: bytes, *, side: int = SIDE, quality: int = QUALITY) -> str:
    """The image file `data` as a WebP data URI, cropped to a square of `side` pixels.

    Raises ImageError where the file cannot be decoded.
    """
    from PIL import Image

    return _embedded(Image.fromarray(decode(data, side, lenient=True)), quality)


def remnant(data: bytes, *, side: int = SIDE, quality: int = QUALITY) -> str:
    """What can still be shown of the unusable image file `data`, as `thumbnail` does; "" where there is nothing.

    It is the upper part of a truncated file, or the first frame of an animated one.
    """
    try:
        return thumbnail(data, side=side, quality=quality)
    except ImageError:
        pass
    try:
        return _embedded(_first_frame(data, side), quality)
    except Exception:  # damaged files can raise anything, and none of it matters to a page
        return ""


def _first_frame(data: bytes, side: int) -> Image.Image:
    """The first frame, as far as it can be decoded, cropped to a square of `side`. Raises whatever a decoder raises."""
    from PIL import ImageOps

    form = sniff(data)
    if form is None:
        raise ValueError("not an image")
    image = opener_of(form)(io.BytesIO(data))
    if image.width * image.height > MOST_LEFT:
        raise ValueError("too large to show")
    image.draft("RGB", (side, side))
    try:
        image.load()
    except (OSError, EOFError, SyntaxError):  # what was decoded before the error is there
        image.tile = []
    picture = image.convert("RGB")
    if all(low == high for low, high in picture.getextrema()):
        raise ValueError("nothing was decoded")
    return ImageOps.fit(picture, (side, side))


def _embedded(image: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
