"""TIFFs whose samples Pillow would misread without a word: refused, and those beside them that it reads rightly."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from selftrain.data.images.decode import decode
from selftrain.errors import ImageError

SHADES = np.linspace(0, 255, 24 * 32).astype(np.uint8).reshape(24, 32)
COLOURS = np.stack([SHADES, SHADES[::-1], np.full_like(SHADES, 60)], axis=-1)
FORMATS = {3: "H", 4: "I"}


def tiff(strips: Sequence[npt.NDArray[np.generic]], *tags: tuple[int, int, list[int]], zipped: bool = False) -> bytes:
    """A TIFF of 24 x 32 pixels with these strips; `tags` are (tag, type, values)."""
    parts = [zlib.compress(each.tobytes()) if zipped else each.tobytes() for each in strips]
    starts = [8 + sum(map(len, parts[:place])) for place in range(len(parts))]
    end = 8 + sum(map(len, parts))
    own = [
        (256, 4, [32]), (257, 4, [24]), (259, 3, [8 if zipped else 1]), (273, 4, starts), (278, 4, [24]),
        (279, 4, [len(each) for each in parts]),
    ]  # fmt: skip
    entries, values = b"", b""
    for tag, kind, numbers in sorted([*own, *tags]):
        packed = struct.pack(f"<{len(numbers)}{FORMATS[kind]}", *numbers)
        if len(packed) > 4:
            at = end + 6 + 12 * (len(own) + len(tags)) + len(values)
            values += packed
            packed = struct.pack("<I", at)
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    directory = struct.pack("<H", len(own) + len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", end) + b"".join(parts) + directory + values


def rgb(bits: int, planar: int) -> list[tuple[int, int, list[int]]]:
    return [(258, 3, [bits] * 3), (262, 3, [2]), (277, 3, [3]), (284, 3, [planar])]


def planes(bits: int) -> list[npt.NDArray[np.generic]]:
    scaled = COLOURS.astype(np.uint16) * 257 if bits == 16 else COLOURS
    return [np.ascontiguousarray(scaled[..., place]) for place in range(3)]


def grey(*more: tuple[int, int, list[int]]) -> list[tuple[int, int, list[int]]]:
    return [(258, 3, [8]), (262, 3, [1]), (277, 3, [1]), *more]


PALETTE = [*range(256), *range(255, -1, -1), *[60] * 256]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (tiff(planes(16), *rgb(16, 2)), "16 bits a channel, one channel after the other, without compression"),
        (tiff([(SHADES.astype(int) - 128).astype(np.int8)], *grey((339, 3, [2]))), "8 bits with a sign"),
        (
            tiff([SHADES], (258, 3, [8]), (262, 3, [3]), (277, 3, [1]), (320, 3, PALETTE)),
            "a palette of values below 256",
        ),
    ],
)
def test_samples_that_would_be_misread_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=f"a TIFF with .*{said}"):
        decode(data, None)
    assert decode(data, None, lenient=True).shape == (24, 32, 3)  # what a store took in before


@pytest.mark.parametrize(
    ("data", "right"),
    [
        (tiff(planes(8), *rgb(8, 2)), COLOURS),
        (tiff(planes(16), *rgb(16, 2), zipped=True), COLOURS),
        (tiff([COLOURS.astype(np.uint16) * 257], *rgb(16, 1)), COLOURS),
        (tiff([SHADES], *grey((339, 3, [1]))), np.repeat(SHADES[..., None], 3, axis=-1)),
        (tiff([(SHADES // 2).astype(np.int8)], *grey((339, 3, [2]))), np.repeat(SHADES[..., None] // 2, 3, axis=-1)),
        (
            tiff([SHADES], (258, 3, [8]), (262, 3, [3]), (277, 3, [1]), (320, 3, [each * 257 for each in PALETTE])),
            np.stack([SHADES, 255 - SHADES, np.full_like(SHADES, 60)], axis=-1),
        ),
    ],
)
def test_samples_beside_them_are_read(data: bytes, right: npt.NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(decode(data, None), right)


def test_a_palette_that_is_black_alone_stays_black() -> None:
    black = Image.new("P", (8, 8))
    black.putpalette([0] * 768)
    file = io.BytesIO()
    black.save(file, "TIFF")
    assert decode(file.getvalue(), None).max() == 0
