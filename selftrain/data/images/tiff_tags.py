"""Tags of TIFF files: what they say of samples that Pillow would misread; and files without the tags of no pixel.

Tags that describe the pixels stay; all others, and what they point to, are wiped in place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from selftrain.data.images.reasons import QuarantineReason
from selftrain.errors import ImageError

# TIFF 6.0 and its supplements: all that a decoder needs, orientation (274) and colour profile (34675) included.
_KEPT_TAGS = """254 255 256 257 258 259 262 263 266 273 274 277 278 279 280 281 282 283 284 290 291 292 293 296 301
    317 318 319 320 321 322 323 324 325 332 334 336 338 339 340 341 342 347
    512 513 514 515 517 518 519 520 521 529 530 531 532 34675"""
_KEPT = frozenset(map(int, _KEPT_TAGS.split()))
_DIRECTORIES = frozenset((330, 34665, 34853, 40965))  # sub-images, EXIF, GPS, interoperability
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_PIXELS = (273, 279, 324, 325)  # where strips are and how long, and tiles
_INTEGERS = {3: "H", 4: "I"}
_DEEPEST = 4
_LARGEST_SIGNED = 127
_BITS, _PLANAR, _COLOUR_MAP, _SAMPLE_FORMAT = 258, 284, 320, 339  # TIFF 6.0, sections 8 and 19
_SEPARATE: Final = 2
_SIGNED: Final = 2


def without_tags(data: bytes) -> bytes:
    """`data` of the same length, whose directories hold only the tags that a decoder needs.

    Raises ImageError for a BigTIFF, whose layout is another, and ValueError for tags that point into the pixels.
    """
    order = "<" if data[:2] == b"II" else ">"
    magic, directory = struct.unpack_from(order + "HI", data, 2)
    if magic != 42:
        raise ImageError(
            QuarantineReason.UNREADABLE,
            "the metadata of a BigTIFF cannot be taken out; save it as TIFF or PNG, or set inbox.keep_metadata",
        )
    wiped = bytearray(data)
    seen: dict[int, None] = {}
    while directory and directory not in seen:
        seen[directory] = None
        directory = _clean(wiped, directory, order)
    if wiped == data:
        return data
    clean = bytes(wiped)
    for directory in seen:
        before, after = (list(_needed(each, directory, order)) for each in (data, clean))
        if before != after:
            raise ValueError("a tag points into the pixels")
    return clean


def _needed(data: bytes, directory: int, order: str) -> Iterator[bytes]:
    """What a decoder reads of one directory: its entries, their values, and the strips or tiles."""
    (count,) = struct.unpack_from(order + "H", data, directory)
    numbers: dict[int, tuple[int, ...]] = {}
    for place in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, length, value = struct.unpack_from(order + "HHII", data, place)
        if tag not in _KEPT:
            continue
        yield data[place : place + 12]
        start = place + 8 if _BYTES.get(kind, 1) * length <= 4 else value
        yield data[start : start + _BYTES.get(kind, 1) * length]
        if tag in _PIXELS and kind in _INTEGERS and start + _BYTES[kind] * length <= len(data):
            numbers[tag] = struct.unpack_from(f"{order}{length}{_INTEGERS[kind]}", data, start)
    for starts, lengths in (_PIXELS[:2], _PIXELS[2:]):
        for start, length in zip(numbers.get(starts, ()), numbers.get(lengths, ()), strict=False):
            yield data[start : start + length]


def _clean(data: bytearray, directory: int, order: str) -> int:
    """Take the other tags out of one directory; returns where the next one is, 0 for none."""
    (count,) = struct.unpack_from(order + "H", data, directory)
    end = directory + 2 + 12 * count
    (following,) = struct.unpack_from(order + "I", data, end)
    kept = []
    for place in range(directory + 2, end, 12):
        entry = bytes(data[place : place + 12])
        if struct.unpack_from(order + "H", entry)[0] in _KEPT:
            kept.append(entry)
        else:
            _wipe(data, entry, order, depth=0)
    packed = struct.pack(order + "H", len(kept)) + b"".join(kept) + struct.pack(order + "I", following)
    data[directory : end + 4] = packed.ljust(end + 4 - directory, b"\0")
    return int(following)


def _wipe(data: bytearray, entry: bytes, order: str, *, depth: int) -> None:
    """Overwrite what a directory's entry points to, and the directories below it."""
    tag, kind, count, value = struct.unpack(order + "HHII", entry)
    length = _BYTES.get(kind, 1) * count
    if tag in _DIRECTORIES and depth < _DEEPEST and value + 2 <= len(data):
        if count != 1:
            raise ValueError(f"tag {tag} names {count} directories")
        (entries,) = struct.unpack_from(order + "H", data, value)
        stop = min(value + 2 + 12 * entries, len(data) - 11)
        for place in range(value + 2, stop, 12):
            _wipe(data, bytes(data[place : place + 12]), order, depth=depth + 1)
        _blank(data, value, 2 + 12 * entries + 4)
    elif length > 4:
        _blank(data, value, length)


def _blank(data: bytearray, start: int, length: int) -> None:
    stop = min(start + length, len(data))
    if start < stop:
        data[start:stop] = bytes(stop - start)


def misread(image: TiffImageFile) -> str | None:
    """What Pillow would get wrong of an opened TIFF, and what to do; None for nothing.

    - 8 bits with a sign, and a value below 0: -1 would become 255
    - planes of 16 bits without compression: the bytes of each value would become two pixels
    - a palette that counts to 255 where TIFF counts to 65,535: all of it would be black
    """
    tags = image.tag_v2
    bits = _numbers(tags.get(_BITS, 1))
    signed = max(bits) == 8 and _SIGNED in _numbers(tags.get(_SAMPLE_FORMAT, 1))
    if signed and np.asarray(image).max() > _LARGEST_SIGNED:
        return "values of 8 bits with a sign, below 0 too; save it with 8 bits from 0 to 255"
    raw = any(tile.codec_name == "raw" for tile in image.tile)
    if raw and max(bits) > 8 and len(bits) > 1 and tags.get(_PLANAR) == _SEPARATE:
        return "16 bits a channel, one channel after the other, without compression; save it with 8 bits a channel"
    palette = _numbers(tags.get(_COLOUR_MAP, 0))
    if image.mode == "P" and 0 < max(palette) < 256:
        return "a palette of values below 256, where TIFF has 65,535 for white; save it as RGB"
    return None


def _numbers(value: object) -> tuple[int, ...]:
    """The numbers of a tag's value; a text or bytes, which a broken writer may leave, has none and counts as 0."""
    each = value if isinstance(value, tuple) else (value,)
    return tuple(int(number) if isinstance(number, int | float) else 0 for number in each) or (0,)
