"""Distances between images: what is far from all others, and a choice of images that are not alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
NEIGHBOURS, MOST_REFERENCE, CHUNK = 5, 20_000, 4096


def spread(values: Floats, count: int) -> Ints:
    """Rows of `values` (n, width), at most `count`, that lie far apart; the first row is among them.

    Each next row is the one farthest from all chosen so far: the greedy 2-approximation of k-centre (Gonzalez 1985),
    which Sener and Savarese (ICLR 2018) use to choose images to label.

    >>> spread(np.array([[0.0], [0.1], [5.0], [4.9]], np.float32), 2).tolist()
    [0, 2]
    """
    chosen = [0]
    nearest = _squared(values, values[:1])[:, 0]
    nearest[0] = -1.0
    while len(chosen) < min(count, len(values)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _squared(values, values[chosen[-1:]])[:, 0])
        nearest[chosen] = -1.0
    return np.array(chosen, np.int64)


def newest_first(values: Floats, reference: Floats, *, seed: int) -> tuple[Ints, Floats]:
    """The rows of `values` (n, width), farthest from `reference` first, and the distance of each row (n,).

    The distance is the mean to the 5 nearest of `reference`. Of a large `reference`, 20,000 rows are drawn with `seed`.
    """
    if len(reference) > MOST_REFERENCE:
        rows = np.random.default_rng(seed).choice(len(reference), MOST_REFERENCE, replace=False)
        reference = reference[np.sort(rows)]
    distance = mean_distance(values, reference, count=NEIGHBOURS)
    return np.argsort(-distance, kind="stable"), distance


def mean_distance(values: Floats, reference: Floats, *, count: int, same: Ints | None = None) -> Floats:
    """The mean distance (n,) of each row of `values` (n, width) to the `count` nearest of `reference` (m, width).

    `same` (m,) names the rows of `values` that the reference consists of, where it does: none is its own neighbour.
    """
    count = min(count, len(reference) - (same is not None))
    distance = np.empty(len(values), np.float32)
    for start in range(0, len(values), CHUNK):
        squared = _squared(values[start : start + CHUNK], reference)
        if same is not None:
            own = np.flatnonzero((same >= start) & (same < start + CHUNK))
            squared[same[own] - start, own] = np.inf
        distance[start : start + CHUNK] = np.sqrt(np.partition(squared, count - 1, axis=1)[:, :count]).mean(axis=1)
    return distance


def nearest(values: Floats, reference: Floats, *, count: int) -> Ints:
    """The `count` rows of `reference` nearest to each row of `values`, nearest first, int64 (n, count or fewer)."""
    count = min(count, len(reference))
    if not count:
        return np.empty((len(values), 0), np.int64)
    squared = _squared(values, reference)
    return np.argsort(squared, axis=1, kind="stable")[:, :count]


def _squared(values: Floats, reference: Floats) -> Floats:
    """Squared distances (n, m)."""
    products = values @ reference.T
    lengths = (values**2).sum(axis=1)[:, None] + (reference**2).sum(axis=1)[None]
    return np.asarray(np.maximum(lengths - 2 * products, 0), np.float32)
