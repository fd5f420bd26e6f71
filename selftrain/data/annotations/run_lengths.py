"""Run lengths: masks as COCO's compressed texts, checked and measured for all objects at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data import columns

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
UInt8s = npt.NDArray[np.uint8]

_FIRST = 48  # the character of 0; a character holds five bits, the sixth says that more follow
_MORE, _SIGN = 0x20, 0x10
_MOST_CHARACTERS = 6  # of one count: 30 bits, more pixels than an image may have


@dataclass(frozen=True)
class RunLengths:
    """The run lengths of k masks, one after the other, column by column; each begins with background.

    `counts` (runs,), `offsets` (k + 1,). A mask with `bad` (k,) has no runs: its text is not one that COCO writes.
    """

    counts: Int64s
    offsets: Int64s
    bad: Bools

    def pixels(self) -> Int64s:
        """(k,) all pixels of each mask, background too: the height times the width of its image."""
        return self._sums(self.counts)

    def areas(self) -> Int64s:
        """(k,) pixels of each object: every second run."""
        place = np.arange(len(self.counts)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return self._sums(np.where(place % 2 == 1, self.counts, 0))

    def _sums(self, values: Int64s) -> Int64s:
        total = np.concatenate([[0], np.cumsum(values)])
        return np.asarray(total[self.offsets[1:]] - total[self.offsets[:-1]], dtype=np.int64)


def run_lengths(masks: pa.Array | pa.ChunkedArray) -> RunLengths:
    """The run lengths of k compressed masks; null has none, and is not bad.

    >>> lengths = run_lengths(pa.array([b"0242", None]))
    >>> lengths.counts.tolist(), lengths.pixels().tolist(), lengths.areas().tolist()
    ([0, 2, 4, 4], [10, 0], [6, 0])
    """
    array = pc.fill_null(masks.cast(pa.large_binary()), b"")
    offsets, text = columns.raw_text(pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array)
    data = np.frombuffer(text, np.uint8).astype(np.int64) - _FIRST
    lengths, n = np.diff(offsets), len(masks)
    mask_of = np.repeat(np.arange(n), lengths)
    ends_at = np.cumsum(lengths)
    last = (data & _MORE) == 0
    unfinished = np.zeros(n, bool)
    filled = lengths > 0
    unfinished[filled] = ~last[ends_at[filled] - 1]
    bad = unfinished | _marked(mask_of, (data < 0) | (data > 63), n)
    fine = ~bad[mask_of]  # what an unfinished text lacks must not come from the next one
    data, last, mask_of = data[fine], last[fine], mask_of[fine]
    values, owner, long = _values(data, last, mask_of)
    bad |= _marked(owner, long, n)
    good = ~bad[owner]
    values, owner = values[good], owner[good]
    counts = _summed(values, owner, n)
    bad |= _marked(owner, counts < 0, n)
    kept = ~bad[owner]
    runs = np.bincount(owner[kept], minlength=n)
    return RunLengths(counts[kept], np.concatenate([[0], np.cumsum(runs)]).astype(np.int64), bad)


def _marked(owner: Int64s, wrong: Bools, n: int) -> Bools:
    """(n,) the masks that own something `wrong`."""
    return np.bincount(owner[wrong], minlength=n) > 0


def _values(data: Int64s, last: Bools, mask_of: Int64s) -> tuple[Int64s, Int64s, Bools]:
    """The numbers that characters spell, the mask of each, and whether it has too many characters."""
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    number = np.repeat(np.arange(len(ends)), ends - starts + 1)
    place = np.arange(len(data)) - starts[number]
    long = ends - starts + 1 > _MOST_CHARACTERS
    shifted = (data & 0x1F) << (5 * np.minimum(place, _MOST_CHARACTERS))
    values = np.bincount(number, weights=shifted, minlength=len(ends)).astype(np.int64)
    negative = (data[ends] & _SIGN) > 0
    bits = 5 * np.minimum(ends - starts + 1, _MOST_CHARACTERS)
    return np.where(negative, values - (np.int64(1) << bits), values), mask_of[ends], long


def _summed(values: Int64s, owner: Int64s, n: int) -> Int64s:
    """Counts from the differences that are written: from the fourth on, each is minus the one two before it."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n))])[owner]
    place = np.arange(len(values)) - starts
    odd = place % 2 == 1
    counts = values.copy()
    for chain in (odd, ~odd & (place > 0)):  # the first count stands outside both
        total = np.concatenate([[0], np.cumsum(np.where(chain, values, 0))])
        counts[chain] = (total[1:] - total[starts])[chain]
    return counts


def compressed(counts: npt.ArrayLike) -> bytes:
    """The text that COCO writes for the run lengths `counts` (runs,).

    >>> compressed([0, 2, 4, 4])
    b'0242'
    """
    runs = np.asarray(counts, np.int64)
    written = runs.copy()
    written[3:] -= runs[1:-2]
    text = bytearray()
    for value in written.tolist():
        more = True
        while more:
            bits, value = value & 0x1F, value >> 5
            more = value != (-1 if bits & _SIGN else 0)
            text.append(_FIRST + (bits | _MORE if more else bits))
    return bytes(text)


def pixels_of(mask: bytes, *, height: int, width: int) -> UInt8s:
    """The mask as pixels (height, width), uint8 0 or 1. Its text was checked when its table was built."""
    lengths = run_lengths(pa.array([mask], pa.large_binary()))
    values = np.arange(len(lengths.counts)) % 2
    return np.repeat(values, lengths.counts).astype(np.uint8).reshape(width, height).T


def mask_of(pixels: npt.NDArray[np.bool_ | np.integer]) -> bytes:
    """The compressed mask of `pixels` (height, width), nonzero inside the object; the inverse of `pixels_of`."""
    return placed(pixels, left=0, top=0, height=pixels.shape[0], width=pixels.shape[1])


def placed(pixels: npt.NDArray[np.bool_ | np.integer], *, left: int, top: int, height: int, width: int) -> bytes:
    """The compressed mask of an image `height` by `width` of which `pixels` (h, w) are a rectangle at `left`, `top`.

    Outside of the rectangle, which lies in the image, nothing belongs to the object. The image itself is not drawn.

    >>> placed(np.ones((1, 2)), left=1, top=1, height=2, width=3) == mask_of(np.array([[0, 0, 0], [0, 1, 1]]))
    True
    """
    columns_first = np.zeros((pixels.shape[1], pixels.shape[0] + 2), np.int8)
    columns_first[:, 1:-1] = (np.asarray(pixels) != 0).T
    column, row = np.nonzero(np.diff(columns_first, axis=1))
    edges = (column + left) * height + row + top  # begins and ends of runs, in turn
    joined = np.flatnonzero(edges[1:] == edges[:-1])  # a run to the foot of a column, and one from the next one's head
    edges = np.delete(edges, np.concatenate([joined, joined + 1]))
    whole = height * width
    ends = [] if len(edges) and edges[-1] == whole else [whole]
    return compressed(np.diff(np.concatenate([[0], edges, ends])))
