"""Openers: the bytes of an image file, and the class of Pillow, or of a package that extends it, which reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Final

from PIL import ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from selftrain.data.images.formats import OF_PACKAGES, Format
from selftrain.data.images.reasons import QuarantineReason
from selftrain.errors import ImageError

MOST_BYTES: Final = 256_000_000
"""Bytes of the largest image file that is read into memory."""

# The plugins are called directly, because `Image.open` checks the size against a process-wide limit of its own.
_OPENERS: Mapping[Format, type[ImageFile.ImageFile]] = {
    Format.JPEG: JpegImageFile,
    Format.PNG: PngImageFile,
    Format.WEBP: WebPImageFile,
    Format.BMP: BmpImageFile,
    Format.GIF: GifImageFile,
    Format.TIFF: TiffImageFile,
    Format.PPM: PpmImageFile,
    Format.AVIF: AvifImageFile,
    Format.JPEG2000: Jpeg2KImageFile,
}
_IN_PACKAGES = {
    Format.HEIC: ("pillow_heif", "HeifImageFile"),
    Format.JXL: ("pillow_jxl.JpegXLImagePlugin", "JXLImageFile"),
}


def opener_of(form: Format) -> type[ImageFile.ImageFile]:
    """The class that opens files of `form`. Raises ImageError where its package is not installed."""
    if form in _OPENERS:
        return _OPENERS[form]
    module, name = _IN_PACKAGES[form]
    try:
        opener: type[ImageFile.ImageFile] = getattr(import_module(module), name)
    except ImportError as error:
        what, package = OF_PACKAGES[form]
        raise ImageError(
            QuarantineReason.NO_DECODER,
            f"{what}: install {package} (pip install 'selftrain[formats]'), or save it as JPEG",
        ) from error
    return opener


def image_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of the image file at `path`.

    Raises ImageError for one above MOST_BYTES, before any of it is in memory, and OSError or ValueError as `open` does.
    """
    with open(path, "rb") as file:
        refuse_bytes(os.fstat(file.fileno()).st_size, MOST_BYTES)
        return file.read()


def refuse_bytes(size: int, most: int) -> None:
    """Raise ImageError for an encoded image of `size` bytes, of which `most` are allowed."""
    if size > most:
        allowed = f"at most {most / 1e6:.0f} MB are allowed"
        raise ImageError(QuarantineReason.TOO_LARGE, f"{size / 1e6:.0f} MB encoded, {allowed}; shrink the image")
