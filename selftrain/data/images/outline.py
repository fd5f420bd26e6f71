"""Outlines: image files followed block by block to their end, without decoding."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from selftrain.data.images.formats import Format


@dataclass(frozen=True)
class Outline:
    """What a file's structure says before any pixel is decoded."""

    complete: bool  # the end of the file is there; what is missing inside a JPEG only the decoder can tell
    canvas: tuple[int, int] | None = None  # width, height in pixels, for formats where opening may allocate them


def outline(data: bytes, form: Format) -> Outline:
    """Follow the blocks of `data` to its end. A block that runs past the end makes it incomplete; nothing is raised."""
    try:
        return _WALKS[form](data)
    except (IndexError, struct.error):
        return Outline(complete=False)


def _jpeg(data: bytes) -> Outline:
    """Look for the end marker anywhere, as cameras append data. The decoder finds what is missing before it."""
    return Outline(complete=data.rfind(b"\xff\xd9") > 0)


def _png(data: bytes) -> Outline:
    position = 8
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if position > len(data):
            return Outline(complete=False)
        if kind == b"IEND":
            return Outline(complete=True)


def _webp(data: bytes) -> Outline:
    (length,) = struct.unpack_from("<I", data, 4)
    canvas = None
    match data[12:16]:
        case b"VP8X":
            canvas = (1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"))
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            canvas = (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            canvas = (width & 0x3FFF, height & 0x3FFF)
    return Outline(complete=length + 8 <= len(data), canvas=canvas)


def _bmp(data: bytes) -> Outline:
    (length,) = struct.unpack_from("<I", data, 2)
    return Outline(complete=length <= len(data))


def _gif(data: bytes) -> Outline:
    """Follow the blocks (GIF89a specification, section 12 onwards). Frames outside the screen enlarge the canvas."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _gif_palette(flags)
    while data[position] != 0x3B:
        if data[position] == 0x2C:
            left, top, across, down, flags = struct.unpack_from("<4HB", data, position + 1)
            width, height = max(width, left + across), max(height, top + down)
            position += 11 + _gif_palette(flags)  # separator, descriptor, palette, code size
        elif data[position] == 0x21:
            position += 2
        else:  # junk between blocks; decoders skip it
            position += 1
            continue
        while size := data[position]:
            position += size + 1
        position += 1
    return Outline(complete=True, canvas=(width, height))


def _gif_palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _tiff(data: bytes) -> Outline:
    """Check the strips and tiles of the first directory (TIFF 6.0, section 2). BigTIFF is left to the decoder."""
    order = "<" if data[:2] == b"II" else ">"
    magic, directory = struct.unpack_from(order + "HI", data, 2)
    if magic != 42:
        return Outline(complete=True)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    values: dict[int, tuple[int, ...]] = {}
    for k in range(entries):
        tag, kind, count = struct.unpack_from(order + "HHI", data, directory + 2 + 12 * k)
        if tag in _TIFF_OFFSETS or tag in _TIFF_LENGTHS:
            sign, width = {3: ("H", 2), 4: ("I", 4)}.get(kind, ("I", 4))
            place = directory + 10 + 12 * k
            if count * width > 4:
                (place,) = struct.unpack_from(order + "I", data, place)
            if place + count * width > len(data):
                return Outline(complete=False)
            values[tag] = struct.unpack_from(f"{order}{count}{sign}", data, place)
    for offsets, lengths in zip(_TIFF_OFFSETS, _TIFF_LENGTHS, strict=True):
        ends = (start + size for start, size in zip(values.get(offsets, ()), values.get(lengths, ()), strict=False))
        if max(ends, default=0) > len(data):
            return Outline(complete=False)
    return Outline(complete=True)


def _boxes(data: bytes) -> Outline:
    """Follow the boxes of an ISO file, as AVIF, HEIC, JPEG 2000 and JPEG XL are; a box of length 0 ends the file."""
    position = 0
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
        if length == 0:
            break
        if length < 8:  # bytes behind the last box, which decoders skip
            return Outline(complete=position > 0)
        position += length
    return Outline(complete=position <= len(data))


def _jpeg2000(data: bytes) -> Outline:
    """A file of boxes, or a bare codestream, which ends with a marker (ISO/IEC 15444-1, annex A)."""
    if data.startswith(b"\xff\x4f"):
        return Outline(complete=data.rfind(b"\xff\xd9") > 0)
    return _boxes(data)


def _jxl(data: bytes) -> Outline:
    """A bare codestream has no outline: what is missing, only the decoder can tell."""
    return Outline(complete=True) if data.startswith(b"\xff\x0a") else _boxes(data)


def _ppm(data: bytes) -> Outline:
    """The header alone says how much must follow, and the decoder counts it."""
    del data
    return Outline(complete=True)


_TIFF_OFFSETS = (273, 324)  # strips, tiles
_TIFF_LENGTHS = (279, 325)

_WALKS = {
    Format.JPEG: _jpeg,
    Format.PNG: _png,
    Format.WEBP: _webp,
    Format.BMP: _bmp,
    Format.GIF: _gif,
    Format.TIFF: _tiff,
    Format.PPM: _ppm,
    Format.AVIF: _boxes,
    Format.HEIC: _boxes,
    Format.JPEG2000: _jpeg2000,
    Format.JXL: _jxl,
}
