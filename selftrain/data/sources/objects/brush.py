"""Brush strokes: Label Studio's run lengths, a bit stream of RGBA values (the format of @thi.ng/rle-pack)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_OPAQUE = 128  # alpha from which a pixel is painted


class _Bits:
    """A stream of bits, the highest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._text, self._at = bin(int.from_bytes(b"\x01" + data, "big"))[3:], 0

    def read(self, count: int) -> int:
        """The next `count` bits as a number. Raises ValueError at the end of the stream."""
        self._at += count
        if self._at > len(self._text):
            raise ValueError("the run lengths end too early")
        return int(self._text[self._at - count : self._at], 2)


def painted(runs: Sequence[int], *, height: int, width: int) -> npt.NDArray[np.bool_]:
    """The pixels (height, width) that a brush painted. Raises ValueError where `runs` do not describe such an image.

    A header has the number of values (32 bits), bits of a value less 1 (5) and four sizes of a count less 1 (4 each).
    Then come runs: whether one value follows or as many as counted (1), which size the count has (2), the count less 1,
    and the value or values.
    """
    bits = _Bits(bytes(runs))
    total, word = bits.read(32), bits.read(5) + 1
    sizes = [bits.read(4) + 1 for _ in range(4)]
    if total != 4 * height * width:
        raise ValueError(f"the run lengths hold {total} values, not {4 * height * width}")
    values = np.zeros(total, np.uint8)
    at = 0
    while at < total:
        repeated = bits.read(1)
        count = min(bits.read(sizes[bits.read(2)]) + 1, total - at)
        if repeated:
            values[at : at + count] = bits.read(word)
        else:
            values[at : at + count] = [bits.read(word) for _ in range(count)]
        at += count
    return np.asarray(values.reshape(height, width, 4)[..., 3] >= _OPAQUE)
