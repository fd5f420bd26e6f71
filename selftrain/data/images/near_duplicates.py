"""Near-duplicates: pairs of images with similar hashes and similar pixels, and the groups that such pairs form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from selftrain.data.images.phash import Bools, Int64s, Pairs, UInt8s, UInt64s, is_crowded, near_pairs

TOLERANCE: Final = 12.0  # gray levels: re-encodings and tints differ by 1-10, the nearest distinct digits by 17
_COMPARED_AT_ONCE: Final = 1 << 15  # thumbnails in memory: 32 MB

Thumbnails = Callable[[Int64s], UInt8s]
"""Gray thumbnails (k, 32, 32) 0-255 of the images in these rows (k,)."""
Wanted = Callable[[Int64s, Int64s], Bools]
"""Which of these k pairs are of interest: (k,) bool."""


def near_duplicates(hashes: UInt64s, thumbnails: Thumbnails | None, *, wanted: Wanted) -> Pairs:
    """The near-duplicate pairs i < j that are `wanted`, among images with these `hashes` (n,).

    Their hashes differ in at most 2 bits and their thumbnails are close; without `thumbnails` the hashes alone decide.
    Where very many images share a hash, as blank pages do, only images of about the same brightness are compared.
    """
    rank = None if thumbnails is None or not is_crowded(hashes) else _brightness(len(hashes), thumbnails)
    pairs = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for i, j in near_pairs(hashes, rank=rank):
        interest = wanted(i, j)
        i, j = i[interest], j[interest]
        for rows in _blocks(len(i)):
            a, b = i[rows], j[rows]
            close = slice(None) if thumbnails is None else close_pixels(thumbnails(a), thumbnails(b))
            pairs.append((a[close], b[close]))
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def close_pixels(gray_a: UInt8s, gray_b: UInt8s, *, tolerance: float = TOLERANCE) -> Bools:
    """(n,) True where two gray pictures (n, ...) 0-255 differ by at most `tolerance` levels, root mean square."""
    difference = gray_a.astype(np.float32) - gray_b.astype(np.float32)
    squares = np.square(difference).mean(axis=tuple(range(1, difference.ndim)))
    return np.asarray(squares <= tolerance**2)


def groups(n: int, i: Int64s, j: Int64s, labels: npt.NDArray[np.integer]) -> Int64s:
    """(n,) the first row of each row's near-duplicate group, by the pairs (i, j); labels (n,), -1 for none.

    Labelled images share a group only with images of the same label, and unlabelled images never connect two labelled
    groups. A chain of unlabelled images belongs to the labelled group that it touches. If it touches several, it
    belongs to none of them.

    >>> groups(4, np.array([0, 1, 2]), np.array([1, 2, 3]), np.array([0, -1, -1, 0])).tolist()
    [0, 1, 1, 3]
    """
    labelled = labels >= 0
    alike = labels[i] == labels[j]  # the same label, or both unlabelled
    group = _components(n, i[alike], j[alike])
    mixed = labelled[i] != labelled[j]
    loose, firm = np.where(labelled[i], j, i)[mixed], np.where(labelled[i], i, j)[mixed]
    touches = np.unique(np.stack([group[loose], group[firm]], axis=1), axis=0)
    chains, first, count = np.unique(touches[:, 0], return_index=True, return_counts=True)
    target = np.arange(n)
    target[chains[count == 1]] = touches[first[count == 1], 1]
    return _first_rows(target[group])


def _brightness(n: int, thumbnails: Thumbnails) -> npt.NDArray[np.float32]:
    """(n,) mean gray level 0-255; exact, as all sums are below 2**24."""
    means = [thumbnails(rows).mean(axis=(1, 2), dtype=np.float32) for rows in _blocks(n)]
    return np.concatenate([np.empty(0, np.float32), *means])


def _blocks(n: int) -> list[Int64s]:
    """The rows 0..n-1, as many at once as fit into memory."""
    return [np.arange(start, min(start + _COMPARED_AT_ONCE, n)) for start in range(0, n, _COMPARED_AT_ONCE)]


def _components(n: int, i: Int64s, j: Int64s) -> Int64s:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, component = connected_components(coo_array((np.ones(len(i), bool), (i, j)), shape=(n, n)), directed=False)
    return _first_rows(component)


def _first_rows(component: npt.NDArray[np.integer]) -> Int64s:
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], dtype=np.int64)
