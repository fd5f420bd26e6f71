"""Thumbnails: small pictures as data URIs, for a page that must hold all that it shows."""

from __future__ import annotations

import base64
import contextlib
import io
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from selftrain.data.images.decode import DEPTHS, decode, largest_value
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


def remnant(data: bytes, *, side: int = SIDE, quality: int = QUALITY, bits: int | None = None) -> str:
    """What can still be shown of the unusable image file `data`, as `thumbnail` does; "" where there is nothing.

    It is the upper part of a truncated file, or the first frame of an animated one. `bits` is as in `thumbnail`. A grey
    picture that does not fit them, or of which they are not known, is shown by the bits that it fills itself.
    """
    try:
        largest = largest_value(data)
        fitting = bits if largest is None else _fitting_bits(largest, bits)
        return thumbnail(data, side=side, quality=quality, bits=fitting)
    except ImageError:
        pass
    try:
        return _embedded(_first_frame(data, side, bits), quality)
    except Exception:  # damaged files can raise anything, and none of it matters to a page
        return ""


def _fitting_bits(largest: int, bits: int | None) -> int | None:
    """`bits` where the `largest` value of 16 bits fits them, otherwise as many as it fills."""
    filled = max(8, largest.bit_length())
    if bits is None:
        return filled if filled <= DEPTHS[-1] else None
    return max(filled, bits)


def _first_frame(data: bytes, side: int, bits: int | None) -> Image.Image:
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
    picture = _eight_bits(image, bits).convert("RGB")
    if picture.getcolors(1) is not None:  # one colour alone
        raise ValueError("nothing was decoded")
    return ImageOps.fit(picture, (side, side))


def _eight_bits(image: Image.Image, bits: int | None) -> Image.Image:
    """A picture of 16 bits of grey as one of 8; any other as it is."""
    import numpy as np
    from PIL import Image

    if not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    return Image.fromarray((values >> ((_fitting_bits(int(values.max()), bits) or 16) - 8)).astype(np.uint8))


def _embedded(image: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
