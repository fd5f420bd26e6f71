"""Thumbnails: small pictures as data URIs, for a page that must hold all that it shows."""

from __future__ import annotations

import base64
import contextlib
import io
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from selftrain.data.images.decode import decode
from selftrain.data.images.formats import sniff
from selftrain.data.images.openers import opener_of
from selftrain.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

SIDE = 96
QUALITY = 72
MOST_SPRITE = 3_000_000
_SPRITE_QUALITIES = (60, 30, 15)
MOST_LEFT = 50_000_000
"""Pixels of the largest unusable image that is shown."""


def thumbnail(data: bytes, *, side: int = SIDE, quality: int = QUALITY, bits: int | None = None) -> str:
    """The image file `data` as a WebP data URI, cropped to a square of `side` pixels.

    `bits` is how many of 16 bits a grey picture fills. Raises ImageError where the file cannot be decoded.
    """
    from PIL import Image

    return _embedded(Image.fromarray(decode(data, side, lenient=True, bits=bits)), quality)


def sprite(images: Iterable[bytes], *, count: int, side: int, bits: int | None = None) -> tuple[str, int]:
    """The `count` image files `images` as one WebP data URI of squares of `side` pixels, and how many are in a row.

    One file after the other is taken and let go. Those that cannot be decoded are grey. Above 3 MB, the quality is
    lowered. `bits` is as in `thumbnail`.
    """
    import numpy as np
    from PIL import Image

    across = max(1, math.ceil(math.sqrt(count)))
    sheet = np.full((max(1, math.ceil(count / across)) * side, across * side, 3), 128, np.uint8)
    for place, data in enumerate(images):
        top, left = (side * each for each in divmod(place, across))
        with contextlib.suppress(ImageError):
            sheet[top : top + side, left : left + side] = decode(data, side, lenient=True, bits=bits)
    drawn = Image.fromarray(sheet)
    uri = _embedded(drawn, _SPRITE_QUALITIES[0])
    for quality in _SPRITE_QUALITIES[1:]:
        uri = uri if len(uri) <= MOST_SPRITE else _embedded(drawn, quality)
    return uri, across


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
    if picture.getcolors(1) is not None:  # one colour alone
        raise ValueError("nothing was decoded")
    return ImageOps.fit(picture, (side, side))


def _embedded(image: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
