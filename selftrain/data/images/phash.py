"""Perceptual hashes: 64 bits per image, and the pairs of images whose hashes are near."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

UInt8s = npt.NDArray[np.uint8]
UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Pairs = tuple[Int64s, Int64s]

SIDE: Final = 32

_LOW: Final = 8
_BATCH: Final = 4096
_CROWD: Final = 256  # images
_NEIGHBOURS: Final = 64
_PAIRS_AT_ONCE: Final = 1 << 22


def phash(gray: npt.NDArray[np.uint8]) -> UInt64s:
    """(n,) 64-bit hashes of (n, 32, 32) gray pictures 0-255; similar pictures differ in few bits.

    pHash (Zauner 2010, section 3.2.1): each bit says whether one of the 8x8 lowest DCT-II coefficients lies above their
    median. The DC coefficient is left out of the median, and its bit is 0. The transform's matrix is rounded to
    integers, so all sums are exact in float64 and the hash is the same on every machine.

    >>> phash(np.zeros((1, 32, 32), np.uint8))
    array([0], dtype=uint64)
    """
    if gray.ndim != 3 or gray.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"phash takes (n, {SIDE}, {SIDE}), got {gray.shape}")
    k, x = np.mgrid[:_LOW, :SIDE]
    dct = np.rint(4096 * np.cos(np.pi * k * (2 * x + 1) / (2 * SIDE)))
    hashes = np.empty(len(gray), np.uint64)
    for start in range(0, len(gray), _BATCH):
        batch = gray[start : start + _BATCH].astype(np.float64)
        coefficients = (dct @ (batch @ dct.T)).reshape(len(batch), -1)
        above = coefficients > np.median(coefficients[:, 1:], axis=1, keepdims=True)
        above[:, 0] = False
        hashes[start : start + len(batch)] = np.packbits(above, axis=1).view(">u8").ravel()
    return hashes


def is_crowded(hashes: UInt64s) -> bool:
    """Whether one hash is shared by so many images that `near_pairs` pairs each only with its neighbours by rank."""
    return bool(np.unique(hashes, return_counts=True)[1].max(initial=0) > _CROWD)


def near_pairs(hashes: UInt64s, *, bits: int = 2, rank: npt.NDArray[np.floating] | None = None) -> Iterator[Pairs]:
    """All pairs i < j of images whose hashes differ in at most `bits` bits, each once, in blocks of bounded size.

    No two near hash values are missed, but a crowd of images may share a value: 100,000 blank pictures would make 5e9
    pairs. In a crowd (one value, or two near ones, with more than 256 x 256 pairs), each image is paired only with the
    next 64 by `rank` (n,), such as the mean brightness; None: by row.
    """
    order = np.lexsort((np.arange(len(hashes)) if rank is None else rank, hashes))
    values, starts, counts = np.unique(hashes[order], return_index=True, return_counts=True)
    same = np.arange(len(values))
    yield from _expand(order, starts, counts, same[counts > 1], same[counts > 1], rank)
    for a, b in _near_values(values, bits):
        yield from _expand(order, starts, counts, a, b, rank)


def _near_values(values: UInt64s, bits: int) -> Iterator[Pairs]:
    """Index pairs of distinct sorted `values` at most `bits` apart, each once.

    The 64 bits are divided into `bits` + 3 blocks. Two near values agree in at least three of them. Sorting by each
    three blocks in turn therefore brings all near values together.
    """
    masks = [np.uint64(sum(blocks)) for blocks in itertools.combinations(_blocks(bits + 3), 3)]
    for number, mask in enumerate(masks):
        keys = values & mask
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        run_end = np.searchsorted(keys, keys, side="right")
        alive = np.flatnonzero(run_end - np.arange(len(keys)) > 1)
        distance = 1
        while len(alive):
            a, b = order[alive], order[alive + distance]
            difference = values[a] ^ values[b]
            near = np.bitwise_count(difference) <= bits
            a, b, difference = a[near], b[near], difference[near]
            new = np.ones(len(a), bool)
            for earlier in masks[:number]:
                new &= (difference & earlier) != 0
            if new.any():
                yield np.minimum(a, b)[new], np.maximum(a, b)[new]
            distance += 1
            alive = alive[run_end[alive] > alive + distance]


def _blocks(count: int) -> list[int]:
    """The 64 bits dealt out to `count` masks in turn, because neighbouring frequencies are alike."""
    return [sum(1 << bit for bit in range(first, 64, count)) for first in range(count)]


def _expand(
    order: Int64s, starts: Int64s, counts: Int64s, a: Int64s, b: Int64s, rank: npt.NDArray[np.floating] | None
) -> Iterator[Pairs]:
    """The pairs of images that have the pairs of hash values (a, b); a and b may be equal.

    The images with the value a are order[starts[a] : starts[a] + counts[a]].
    """
    sizes = counts[a] * counts[b]
    crowded = sizes > _CROWD**2
    for k in np.flatnonzero(crowded):
        members = [order[starts[value] : starts[value] + counts[value]] for value in {int(a[k]), int(b[k])}]
        yield from _neighbours(members, rank)
    a, b, sizes = a[~crowded], b[~crowded], sizes[~crowded]
    for low, high in _runs(sizes):
        pair = np.repeat(np.arange(low, high), sizes[low:high])
        inside = np.arange(len(pair)) - np.repeat(np.cumsum(sizes[low:high]) - sizes[low:high], sizes[low:high])
        first, second = np.divmod(inside, counts[b[pair]])
        once = (a[pair] != b[pair]) | (first < second)
        i, j = order[starts[a[pair]] + first][once], order[starts[b[pair]] + second][once]
        yield np.minimum(i, j), np.maximum(i, j)


def _runs(sizes: Int64s) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of `sizes` whose sums stay near _PAIRS_AT_ONCE."""
    block = np.cumsum(sizes) // _PAIRS_AT_ONCE
    edges = np.flatnonzero(np.diff(block)) + 1
    yield from itertools.pairwise([0, *edges.tolist(), len(sizes)])


def _neighbours(members: list[Int64s], rank: npt.NDArray[np.floating] | None) -> Iterator[Pairs]:
    """Pair each image with the next _NEIGHBOURS by rank; of two crowds, pair only images of different ones."""
    rows = np.concatenate(members)
    crowd = np.repeat(np.arange(len(members)), [len(rows_of_one) for rows_of_one in members])
    order = np.lexsort((rows, rows if rank is None else rank[rows]))
    rows, crowd = rows[order], crowd[order]
    for distance in range(1, min(_NEIGHBOURS, len(rows) - 1) + 1):
        i, j = rows[:-distance], rows[distance:]
        wanted = crowd[:-distance] != crowd[distance:] if len(members) == 2 else np.ones(len(i), bool)
        yield np.minimum(i, j)[wanted], np.maximum(i, j)[wanted]
