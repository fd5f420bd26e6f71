"""Image file formats, recognised by their first bytes; a name only says what somebody took a file for."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePath


class Format(StrEnum):
    """The file formats that can be read; those in OF_PACKAGES with a package that is not always installed."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WebP"
    BMP = "BMP"
    GIF = "GIF"
    TIFF = "TIFF"
    PPM = "PPM"
    AVIF = "AVIF"
    JPEG2000 = "JPEG 2000"
    HEIC = "HEIC"
    JXL = "JPEG XL"


EXTENSIONS = {
    ".jpg": Format.JPEG,
    ".jpeg": Format.JPEG,
    ".jpe": Format.JPEG,
    ".jfif": Format.JPEG,
    ".mpo": Format.JPEG,
    ".png": Format.PNG,
    ".apng": Format.PNG,
    ".webp": Format.WEBP,
    ".bmp": Format.BMP,
    ".dib": Format.BMP,
    ".gif": Format.GIF,
    ".tif": Format.TIFF,
    ".tiff": Format.TIFF,
    ".ppm": Format.PPM,
    ".pgm": Format.PPM,
    ".pbm": Format.PPM,
    ".pnm": Format.PPM,
    ".avif": Format.AVIF,
    ".jp2": Format.JPEG2000,
    ".j2k": Format.JPEG2000,
    ".j2c": Format.JPEG2000,
    ".jpx": Format.JPEG2000,
    ".heic": Format.HEIC,
    ".heif": Format.HEIC,
    ".hif": Format.HEIC,
    ".jxl": Format.JXL,
}
HEADER_BYTES = 64
"""Bytes at the start of a file that `sniff` may need."""
OF_PACKAGES = {
    Format.HEIC: ("HEIC, as phones write it", "pillow-heif"),
    Format.JXL: ("JPEG XL", "pillow-jxl-plugin"),
}
"""What a format is, and the package that reads it."""

_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
_NETPBM = re.compile(rb"P[1-6][ \t\r\n]+[0-9#]")
_STRANGERS = (
    (rb"\s*(<!doctype html|<html|<head|<body)", "a page of HTML: the download met an error or a login; fetch it again"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the picture; run `git lfs pull`"),
    (
        rb"(\.\./)*\.git/annex/|/annex/objects/",
        "a git-annex pointer, not the picture; run `git annex get`",
    ),
    (rb"\s*(<\?xml.{0,200})?<svg", "a drawing in SVG; save it as PNG"),
    (rb"\s*<\?xml", "XML, perhaps the error of a server; fetch the file again"),
    (rb"\s*[{\[]\s*\"", "JSON, perhaps the error of a server; fetch the file again"),
    (rb".{128}DICM", "DICOM; save its pictures as PNG"),
    (rb"%PDF", "a PDF; save its pictures as PNG"),
    (rb"8BPS", "a file of Photoshop; save it as PNG"),
    (rb"PK\x03\x04", "a zip archive; give it as a source of its own"),
)


def sniff(data: bytes) -> Format | None:
    """The format that the first bytes of `data` announce, or None.

    >>> sniff(b"GIF89a...")
    <Format.GIF: 'GIF'>
    """
    if data.startswith(b"\xff\xd8\xff"):
        return Format.JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return Format.PNG
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Format.WEBP
    if data.startswith((b"GIF87a", b"GIF89a")):
        return Format.GIF
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return Format.TIFF
    if data.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return Format.JPEG2000
    if data.startswith((b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a")):
        return Format.JXL
    if data[4:8] == b"ftyp":
        return _of_brands(data)
    if _NETPBM.match(data):
        return Format.PPM
    if data.startswith(b"BM") and len(data) >= 18 and data[14] in (12, 40, 52, 56, 64, 108, 124):
        return Format.BMP
    return None


def named(name: str) -> Format | None:
    """The format that the extension of `name` announces; None if it announces none of ours."""
    return EXTENSIONS.get(PurePath(name).suffix.lower())


def stranger(data: bytes) -> str | None:
    """What often lies where a picture should: what `data` is, and what to do about it; None for anything else.

    >>> stranger(b"<!DOCTYPE html><html>404")
    'a page of HTML: the download met an error or a login; fetch it again'
    """
    head = data[:1024]
    found = (advice for pattern, advice in _STRANGERS if re.match(pattern, head, re.DOTALL | re.IGNORECASE))
    return next(found, None)


def _of_brands(data: bytes) -> Format | None:
    """AVIF or HEIC, by the brands in the first box (ISO/IEC 14496-12, section 4.3); a film has others."""
    length = int.from_bytes(data[:4], "big")
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(length, HEADER_BYTES), 4))}
    if brands & {b"avif", b"avis"}:
        return Format.AVIF
    return Format.HEIC if brands & _HEIC_BRANDS else None
