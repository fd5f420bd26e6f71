"""Metadata of image files: taken out of the encoded bytes without touching a pixel.

EXIF (GPS, owner, serial numbers), XMP, IPTC, comments, thumbnails and whatever lies behind an image's end go. Colour
profiles stay, and so does the orientation, in an EXIF block that says nothing else.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import Final

from PIL import Image

from selftrain.data.images.decode import ORIENTATION_TAG, decode, deep_grey, quiet
from selftrain.data.images.encode import encode_png
from selftrain.data.images.formats import Format, sniff
from selftrain.data.images.openers import opener_of
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.images.tiff_tags import without_tags
from selftrain.errors import ImageError

_EXIF_START: Final = b"Exif\0\0"
_ICC_START: Final = b"ICC_PROFILE\0"
_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff(?=[^\x00\x01\xd0-\xd8\xff])", re.DOTALL)  # restarts and escaped bytes belong to a scan
_PNG_KEPT = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP sBIT bKGD pHYs hIST cICP mDCV cLLI acTL fcTL fdAT".split()
)
_WEBP_KEPT = frozenset((b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP", b"ANIM", b"ANMF"))
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04
_GIF_KEPT = (b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012")


def without_metadata(data: bytes) -> bytes:
    """`data` without metadata; the same pixels, colours and orientation. Bytes without any come back as they are.

    Formats whose metadata cannot be cut out become PNG, with the pixels that decoding gives; those of grey pictures of
    16 bits stay, so that the bits of the set are applied later.

    Data that begin like none of our formats come back as they are too, for `examine` to refuse. Raises ImageError where
    the metadata cannot be taken out: what is personal is never kept by accident.
    """
    form = sniff(data)
    try:
        match form:
            case None | Format.BMP:  # a BMP has no place for any
                return data
            case Format.PPM | Format.AVIF | Format.HEIC | Format.JPEG2000 | Format.JXL:
                return _pixels_alone(data)
            case Format.JPEG:
                return _jpeg(data)
            case Format.PNG:
                return _png(data)
            case Format.WEBP:
                return _webp(data)
            case Format.GIF:
                return _gif(data)
            case Format.TIFF:
                return without_tags(data)
    except (struct.error, IndexError, ValueError) as error:
        raise ImageError(
            QuarantineReason.TRUNCATED, f"the blocks of the {form} data do not fit together ({error}); save it again"
        ) from error


def _pixels_alone(data: bytes) -> bytes:
    grey = deep_grey(data)
    return encode_png(decode(data, None) if grey is None else grey)


def _orientation(data: bytes, form: Format) -> int:
    """The EXIF orientation 1-8, found as decoding finds it; 1 where there is none."""
    try:
        with quiet():
            value = opener_of(form)(io.BytesIO(data)).getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF can raise anything; decoding then turns nothing either
        return 1
    return value if isinstance(value, int) and 2 <= value <= 8 else 1


def _exif(orientation: int) -> bytes:
    """An EXIF block with nothing but an orientation."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return exif.tobytes().removeprefix(_EXIF_START)


def _jpeg(data: bytes) -> bytes:
    """ITU T.81, annex B. Only segments before and between scans can hold metadata; data behind the end are cut."""
    kept, dropped = [b"\xff\xd8"], False
    had_exif = False
    for code, start, stop in _jpeg_parts(data):
        body = data[start:stop]
        if code is None or _is_kept_segment(code, body[4:]):
            kept.append(body)
        else:
            dropped, had_exif = True, had_exif or code == 0xE1
    if not dropped and sum(map(len, kept)) == len(data):
        return data
    turn = _orientation(data, Format.JPEG) if had_exif else 1
    if turn != 1:
        exif = _EXIF_START + _exif(turn)
        at = 2 if len(kept) > 1 and kept[1][:2] == b"\xff\xe0" else 1
        kept.insert(at, b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif)
    return b"".join(kept)


def _is_kept_segment(code: int, content: bytes) -> bool:
    if code == 0xFE:  # comment
        return False
    if code == 0xE2:
        return content.startswith(_ICC_START)
    return not 0xE0 < code <= 0xEF or code == 0xEE  # APP0 and Adobe's APP14 say how to read the colours


def _jpeg_parts(data: bytes) -> Iterator[tuple[int | None, int, int]]:
    """(marker code, start, stop) of the segments behind the first marker, up to the end marker; None: coded data.

    Bytes between segments that are neither are left out, as decoders skip them.
    """
    position, code = 2, 0xD8
    while True:
        found = _MARKER.search(data, position)
        if found is None:  # `examine` would refuse it too
            raise ValueError("there is no end marker")
        start = found.start()
        if code == _SCAN and start > position:
            yield None, position, start
        code = data[start + 1]
        if code == _END:
            yield None, start, start + 2
            return
        (length,) = struct.unpack_from(">H", data, start + 2)
        position = start + 2 + length
        yield code, start, position


def _png(data: bytes) -> bytes:
    """PNG specification, section 5: chunks."""
    kept, dropped = [data[:8]], False
    position, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ValueError("a chunk runs past the end")
        if kind in _PNG_KEPT:
            kept.append(data[position:end])
        else:
            dropped = True
        position = end
    if not dropped and position == len(data):
        return data
    turn = _orientation(data, Format.PNG) if dropped else 1
    if turn != 1:
        kept.insert(2, _png_chunk(b"eXIf", _exif(turn)))
    return b"".join(kept)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    import zlib

    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _webp(data: bytes) -> bytes:
    """RIFF chunks, each padded to an even length; VP8X announces which kinds there are."""
    (length,) = struct.unpack_from("<I", data, 4)
    end = 8 + length
    if end > len(data):
        raise ValueError("the data stop before their announced end")
    chunks, dropped = [], end < len(data)
    position = 12
    while position + 8 <= end:
        kind, size = struct.unpack_from("<4sI", data, position)
        stop = position + 8 + size
        if stop > end:
            raise ValueError("a chunk runs past the end")
        if kind in _WEBP_KEPT:
            chunks.append((kind, data[position + 8 : stop]))
        else:
            dropped = True
        position = stop + size % 2
    if not dropped:
        return data
    turn = _orientation(data, Format.WEBP)
    flags = _WEBP_EXIF if turn != 1 else 0
    if turn != 1:
        chunks.append((b"EXIF", _exif(turn)))
    if chunks and chunks[0][0] == b"VP8X":
        first = chunks[0][1]
        chunks[0] = (b"VP8X", bytes([first[0] & ~(_WEBP_EXIF | _WEBP_XMP) | flags]) + first[1:])
    body = b"".join(kind + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for kind, part in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _gif(data: bytes) -> bytes:
    """GIF89a specification: comments, plain text and applications' extensions go, but for loops and colour profiles."""
    position = 13 + _gif_palette(data[10])
    kept = [data[:position]]
    while data[position] != 0x3B:
        start = position
        if data[position] == 0x2C:
            position = _gif_blocks_end(data, position + 11 + _gif_palette(data[position + 9]))
            kept.append(data[start:position])
        elif data[position] == 0x21:
            label = data[position + 1]
            position = _gif_blocks_end(data, position + 2)
            if label == 0xF9 or (label == 0xFF and data[start + 3 : start + 14] in _GIF_KEPT):
                kept.append(data[start:position])
        else:  # junk between blocks, which decoders skip
            position += 1
    kept.append(b";")
    made = b"".join(kept)
    return data if made == data else made


def _gif_palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_blocks_end(data: bytes, position: int) -> int:
    while size := data[position]:
        position += size + 1
    return position + 1
