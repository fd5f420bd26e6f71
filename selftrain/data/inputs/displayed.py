"""Displayed pictures: a Pillow image whose numbers are not colours becomes one whose numbers are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from selftrain.data.images.decode import over_white
from selftrain.errors import ImageError, SourceError

if TYPE_CHECKING:
    from PIL import Image

_BLACK_AND_WHITE: Final = "1"
_WITHOUT_ALPHA: Final = ("P", "CMYK", "YCbCr", "HSV")
_WITH_ALPHA: Final = ("PA", "LA", "La", "RGBa")


def as_displayed(image: Image.Image) -> Image.Image:
    """`image` in a mode whose numbers are what a screen shows: grey or RGB; RGBA and others are left as they are.

    As an array, an image with a palette holds places in the palette, CMYK holds inks, and YCbCr and HSV are not RGB
    although they have three channels. Transparent parts of grey images and of palettes are laid over white, as those of
    files are. Raises SourceError for LAB, and for a picture of which white leaves nothing.

    >>> from PIL import Image
    >>> palette = Image.new("RGB", (1, 1), (200, 30, 10)).quantize(2)
    >>> palette.getpixel((0, 0)), as_displayed(palette).getpixel((0, 0))
    (0, (200, 30, 10))
    """
    if image.mode == _BLACK_AND_WHITE:
        return image.convert("L")
    if image.mode in _WITH_ALPHA or (image.mode != "RGBA" and "transparency" in image.info):
        try:
            return over_white(image)
        except ImageError as error:
            raise SourceError(f"a PIL image of mode {image.mode!r}: {error.message}") from error
    if image.mode == "LAB":
        raise SourceError("a PIL image of mode 'LAB' has no channels that a model reads; convert it to RGB")
    return image.convert("RGB") if image.mode in _WITHOUT_ALPHA else image
