"""Openers: the class of Pillow, or of a package that extends it, which reads a format."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

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
