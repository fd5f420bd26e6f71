"""Tags of TIFF files: those that describe the pixels stay; all others, and what they point to, are wiped in place."""

from __future__ import annotations

import struct

from selftrain.data.images.decode import QuarantineReason
from selftrain.errors import ImageError

# TIFF 6.0 and its supplements: all that a decoder needs, orientation (274) and colour profile (34675) included.
_KEPT_TAGS = """254 255 256 257 258 259 262 263 266 273 274 277 278 279 280 281 282 283 284 290 291 292 293 296 301
    317 318 319 320 321 322 323 324 325 332 334 336 338 339 340 341 342 347
    512 513 514 515 517 518 519 520 521 529 530 531 532 34675"""
_KEPT = frozenset(map(int, _KEPT_TAGS.split()))
_DIRECTORIES = frozenset((330, 34665, 34853, 40965))  # sub-images, EXIF, GPS, interoperability
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_DEEPEST = 4


def without_tags(data: bytes) -> bytes:
    """`data` of the same length, whose directories hold only the tags that a decoder needs.

    Raises ImageError for a BigTIFF, whose layout is another.
    """
    order = "<" if data[:2] == b"II" else ">"
    magic, directory = struct.unpack_from(order + "HI", data, 2)
    if magic != 42:
        raise ImageError(
            QuarantineReason.UNREADABLE,
            "the metadata of a BigTIFF cannot be taken out; save it as TIFF or PNG, or set inbox.keep_metadata",
        )
    wiped = bytearray(data)
    seen: set[int] = set()
    while directory and directory not in seen:
        seen.add(directory)
        directory = _clean(wiped, directory, order)
    return data if wiped == data else bytes(wiped)


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
