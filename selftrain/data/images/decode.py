"""Decoding: from the bytes of one image file to RGB pixels, or to the reason why it has none."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile

from selftrain.data.images.formats import Format, named, sniff, stranger
from selftrain.data.images.openers import opener_of
from selftrain.data.images.outline import outline
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.images.tiff_tags import misread
from selftrain.errors import ImageError

UInt8s = npt.NDArray[np.uint8]
UInt16s = npt.NDArray[np.uint16]

GRAY_SIDE: Final = 32
MAX_PIXELS: Final = 178_956_970  # twice Pillow's own limit; above this Pillow refuses too

_BICUBIC, _BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
ORIENTATION_TAG = 0x0112
_SUBFILE, _OLD_SUBFILE = 254, 255  # TIFF 6.0, section 8: what a page is to the others
_PAGES_LOOKED_AT = 16
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF 6.0, section 4
DEPTHS: Final = (8, 10, 12, 14)
"""Bits of cameras and scanners that are kept in 16."""
_SHALLOW: Final = 1 << DEPTHS[-1]  # values of 16 bits all below it would be decoded as a quarter of white or less
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ImageFacts:
    """What ingest learns from reading one image file."""

    image_id: str  # sha256 of the bytes, hex
    width: int  # pixels, as displayed (EXIF applied)
    height: int
    gray32: UInt8s  # (32, 32) 0-255, the whole picture resized to a square, for hashes and near-duplicates


def probe(data: bytes, name: str, *, max_pixels: int, min_side: int) -> tuple[int, int]:
    """Check the header and structure of a file without decoding it; its width and height in pixels, not yet turned.

    Raises ImageError with the QuarantineReason. An image over `max_pixels` is refused before its pixels take memory.
    """
    with _reasons(name):
        return _open(data, name, max_pixels=max_pixels, min_side=min_side).size


def examine(data: bytes, name: str, *, max_pixels: int, min_side: int, bits: int | None = None) -> ImageFacts:
    """Decode a whole file once, and return all that ingest needs to know about it.

    Truncation at any offset is found. A JPEG is decoded at the smallest scale that suffices. The entropy decoder still
    reads all of it, and that is the part that fails on damaged data. `bits` is as in `decode`. Raises ImageError with
    the QuarantineReason.
    """
    with _reasons(name):
        image = _open(data, name, max_pixels=max_pixels, min_side=min_side)
        width, height = image.size
        turned_by_pillow = isinstance(image, TiffImageFile)
        image.draft("L", (2 * GRAY_SIDE, 2 * GRAY_SIDE))
        pixels = _loaded(image, lenient=False, bits=bits)
        gray = pixels if pixels.mode == "L" else pixels.convert("L")
        turn = _turn(image)
        small = gray.resize((GRAY_SIDE, GRAY_SIDE), _BILINEAR, reducing_gap=2.0)
        if turn is not None:
            small = small.transpose(turn)
            if turn in (_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8]) and not turned_by_pillow:
                width, height = height, width
        return ImageFacts(hashlib.sha256(data).hexdigest(), width, height, np.array(small))


def misnaming(data: bytes, name: str) -> str | None:
    """What is wrong with the name of a picture, if it announces another format than the bytes have; it is read anyway.

    >>> misnaming(b"GIF89a...", "photos/a.jpg")
    'the name says JPEG, the bytes are GIF'
    """
    announced, form = named(name), sniff(data)
    return None if announced in (None, form) or form is None else f"the name says {announced}, the bytes are {form}"


def decode(
    data: bytes,
    size: int | None,
    *,
    max_pixels: int = MAX_PIXELS,
    lenient: bool = False,
    bits: int | None = None,
) -> UInt8s:
    """The RGB pixels of an image file, uint8 0-255: (size, size, 3), or (height, width, 3) if `size` is None.

    The shorter side is resized to `size` (antialiased bicubic, small images enlarged), then the centre is cropped. EXIF
    orientation is applied, transparent parts are laid over white, and 16-bit values keep their upper 8 bits. `bits`
    says how many of the 16 the grey pictures of a set fill, such as 12: then the upper 8 of those are kept. Training
    and serving both decode with this function. Raises ImageError with the QuarantineReason. `lenient` decodes also
    pictures that would come out nearly black or blank: those that a store took in before they were refused.
    """
    with _reasons("image"):
        image = _open(data, "", max_pixels=max_pixels, min_side=1)
        if size is not None:
            scale = 2 * size / min(image.size)
            image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
        pixels = _rgb(_loaded(image, lenient=lenient, bits=bits))
        if size is not None:
            side = min(pixels.size)
            left, top = (pixels.width - side) / 2, (pixels.height - side) / 2
            pixels = pixels.resize((size, size), _BICUBIC, (left, top, left + side, top + side), reducing_gap=3.0)
        turn = _turn(image)
        return np.array(pixels if turn is None else pixels.transpose(turn))


def _open(data: bytes, name: str, *, max_pixels: int, min_side: int) -> ImageFile.ImageFile:
    """Open an image without decoding it, and check all that its header can show."""
    if not data:
        raise ImageError(QuarantineReason.ZERO_BYTE, "the file is empty; copy it again")
    form = sniff(data)
    if form is None:
        known = stranger(data)
        detail = (
            f"the file is {known}" if known else f"the file does not begin like any of {', '.join(Format)}; convert it"
        )
        raise ImageError(QuarantineReason.NOT_AN_IMAGE, detail)
    outlined = outline(data, form)
    if outlined.canvas:
        _refuse_large(outlined.canvas, max_pixels)
    if not outlined.complete:
        raise ImageError(
            QuarantineReason.TRUNCATED, f"the {form} data stop before their end marker; copy the file again"
        )
    image = opener_of(form)(io.BytesIO(data))
    _refuse_large(image.size, max_pixels)
    if min(image.size) < min_side:
        raise ImageError(
            QuarantineReason.TOO_SMALL,
            f"{image.width}x{image.height} pixels, but the shorter side must have {min_side}; leave the image out",
        )
    frames = _frames(image)
    if frames > 1:
        detail = f"{frames} frames or pages, but only one is allowed; save the one that you want"
        raise ImageError(QuarantineReason.ANIMATED, detail)
    return image


def _frames(image: ImageFile.ImageFile) -> int:
    """How many frames or pages `image` has, without those that a scanner adds as reduced copies of the first."""
    frames = int(getattr(image, "n_frames", 1))
    if frames == 1 or not isinstance(image, TiffImageFile):
        return frames
    reduced = 0
    for page in range(1, min(frames, _PAGES_LOOKED_AT)):
        image.seek(page)
        reduced += image.tag_v2.get(_SUBFILE, 0) & 1 or image.tag_v2.get(_OLD_SUBFILE, 0) == 2
    image.seek(0)
    return frames - reduced


def _refuse_large(size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise ImageError(
            QuarantineReason.TOO_LARGE,
            f"{size[0]}x{size[1]} pixels, at most {max_pixels / 1e6:g} million are allowed; "
            "shrink the image or raise ingest.max_megapixels",
        )


def _loaded(image: ImageFile.ImageFile, *, lenient: bool, bits: int | None) -> Image.Image:
    """`image`, decoded, in a mode of 8 bits: transparent parts over white, and the upper 8 of 16, or of `bits`.

    Raises ImageError for a picture of which that would leave nothing, or its negative, unless `lenient`.
    """
    if not lenient:
        _refuse_unmarked_inks(image)
        _refuse_misread(image)
    deep = any(";16" in str(tile.args) for tile in image.tile)
    image.load()
    if _is_deep_grey(image):
        values = np.asarray(image)
        if not lenient:
            _refuse_unfit(int(values.max()), bits)
        shown = np.minimum(values >> ((bits or 16) - 8), 255).astype(np.uint8)
        return Image.fromarray(255 - shown if _is_negative(image) else shown)
    if image.mode in ("I", "F", "LAB"):
        raise ImageError(
            QuarantineReason.UNSUPPORTED_MODE,
            f"pixels of mode {image.mode!r} have no defined range; save the image as 8- or 16-bit RGB",
        )
    if deep and not lenient:  # the decoder has taken the upper 8 bits
        colours = [place for place, band in enumerate(image.getbands()) if band != "A"]
        largest = int(np.atleast_3d(np.asarray(image))[..., colours].max()) << 8
        if bits is None or bits == 16:
            _refuse_unfit(largest, bits)
        else:
            raise ImageError(
                QuarantineReason.UNSUPPORTED_MODE,
                f"16 bits a channel in colour or with transparency, and the set is read as grey of {bits} bits "
                "(ingest.bits); save it with 8 bits a channel",
            )
    if image.mode == "CMYK" and not lenient:
        _refuse_lost_inks(image)
    return over_white(image, lenient=lenient) if image.has_transparency_data else image


def _refuse_unmarked_inks(image: ImageFile.ImageFile) -> None:
    """Raise ImageError for a JPEG in CMYK without Adobe's marker, which says that 0 is the full ink.

    Pillow takes 0 for the full ink in any case, and so makes the white of others black.
    """
    if image.mode == "CMYK" and isinstance(image, JpegImageFile) and "adobe" not in image.info:
        raise ImageError(
            QuarantineReason.UNSUPPORTED_MODE,
            "a JPEG in CMYK without Adobe's marker: whether it is stored as a negative is not known, so white might "
            "become black; save it as RGB with a program that shows it right",
        )


def _refuse_misread(image: ImageFile.ImageFile) -> None:
    """Raise ImageError for a TIFF whose samples are kept in a way that is not read rightly."""
    wrong = misread(image) if isinstance(image, TiffImageFile) else None
    if wrong is not None:
        raise ImageError(QuarantineReason.UNSUPPORTED_MODE, f"a TIFF with {wrong}")


def _is_negative(image: ImageFile.ImageFile) -> bool:
    """Whether 0 is white in a TIFF of 16 bits, as X-ray scanners write it; Pillow turns only those of 8 bits."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _refuse_lost_inks(image: Image.Image) -> None:
    """Raise ImageError for a picture in CMYK of which RGB keeps one colour, as of a negative full of black."""
    if _is_one_colour(image.convert("RGB")) and not _is_one_colour(image):
        raise ImageError(
            QuarantineReason.UNSUPPORTED_MODE,
            "a picture in CMYK that is one colour in RGB: it may be stored as a negative; save it as RGB with a "
            "program that shows it right",
        )


def largest_value(data: bytes) -> int | None:
    """The largest value of a grey picture of 16 bits; None for any other. Raises ImageError where it is damaged.

    >>> largest_value(b"P5 1 1 255 !") is None
    True
    """
    values = deep_grey(data)
    return None if values is None else int(values.max())


def deep_grey(data: bytes) -> UInt16s | None:
    """The values of a grey picture of 16 bits as they are stored, uint16 (height, width); None for any other.

    Raises ImageError where it is damaged.
    """
    with _reasons("image"):
        image = _open(data, "", max_pixels=MAX_PIXELS, min_side=1)
        if not _is_deep_grey(image):
            return None
        image.load()
        return np.asarray(image).astype(np.uint16)


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and isinstance(image, PpmImageFile))


def _refuse_unfit(largest: int, bits: int | None) -> None:
    """Raise ImageError for values of 16 bits that do not fit `bits`, or of which None knows what is white."""
    if bits is not None and largest >= 1 << bits:
        raise ImageError(
            QuarantineReason.TOO_DEEP,
            f"values of 16 bits, of which the largest is {largest}, but the set is read as {bits} bits: at most "
            f"{(1 << bits) - 1}. Where the others are as bright, set ingest.bits higher (at most 16)",
        )
    if bits is None and 0 < largest < _SHALLOW:
        raise ImageError(
            QuarantineReason.SHALLOW,
            f"values of 16 bits, of which the largest is about {largest}, as cameras of 10, 12 and 14 bits write them: "
            f"decoded, the picture would reach {largest >> 8} of 255. Set ingest.bits to the bits that the brightest "
            "picture of the set fills, such as 12 (`selftrain init` does so), and train again; for a model of your own "
            "say --bits 12, or bits=12; or save it with 8 bits",
        )


def over_white(image: Image.Image, *, lenient: bool = False) -> Image.Image:
    """`image` with its transparent parts over white, as RGB; unless `lenient`, raises ImageError if nothing is left."""
    layer = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    laid = Image.alpha_composite(white, layer).convert("RGB")
    if not lenient and _is_one_colour(laid) and not _is_one_colour(layer):
        raise ImageError(
            QuarantineReason.TRANSPARENT,
            "the picture is in its alpha channel alone, or wholly transparent: over white, nothing of it is left; "
            "save it without transparency, on a ground from which it stands out",
        )
    return laid


def _is_one_colour(image: Image.Image) -> bool:
    return all(low == high for low, high in (image.getchannel(band).getextrema() for band in image.getbands()))


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _turn(image: ImageFile.ImageFile) -> Image.Transpose | None:
    """The turn or flip that EXIF asks for and that loading has not done; Pillow turns TIFF images itself."""
    try:
        return _TURNS.get(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # damaged EXIF can raise anything; the pixels matter more
        return None


@contextmanager
def _reasons(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an ImageError with a QuarantineReason, and hide Pillow's warnings."""
    try:
        with quiet():
            yield
    except ImageError as error:
        raise ImageError(error.reason, f"{name}: {error.message}") from None
    except Image.DecompressionBombError as error:
        raise ImageError(QuarantineReason.TOO_LARGE, f"{name}: {error}") from error
    except Exception as error:  # decoders raise anything on damaged bytes, and one file must not end a run
        cut = isinstance(error, EOFError) or isinstance(error.__cause__, (IndexError, EOFError, struct.error))
        reason = QuarantineReason.TRUNCATED if cut or "truncated" in str(error) else QuarantineReason.UNREADABLE
        detail = str(error) or type(error).__name__
        raise ImageError(reason, f"{name}: cannot be decoded ({detail}); copy or save it again") from error


class _Quiet:
    """Ignores Pillow's warnings while any thread is inside; `catch_warnings` alone is not safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved: warnings.catch_warnings[None] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0 and self._saved is not None:
                    self._saved.__exit__(None, None, None)


quiet = _Quiet()
