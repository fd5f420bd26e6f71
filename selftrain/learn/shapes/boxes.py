"""Boxes as tensors: overlap, the network's way to write a box, and the choice among boxes of one object."""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

SWEEPS = 4
"""Sweeps of `suppressed`; for 300 crowded boxes it equals the greedy rule from three on."""

_LARGEST = 6.0  # of the logarithm of a side in strides: 400 strides


class Grid(NamedTuple):
    """The locations of a network on images of one size: `centres` (l, 2) as x, y in pixels, and `strides` (l,)."""

    centres: NDArray[np.float32]
    strides: NDArray[np.float32]


def grid(height: int, width: int, strides: tuple[int, ...]) -> Grid:
    """The locations on images of `height` and `width` pixels, which each stride divides: level by level, row by row."""
    centres, steps = [], []
    for stride in strides:
        rows, columns = np.mgrid[0 : height // stride, 0 : width // stride]
        centres.append((np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5) * stride)
        steps.append(np.full(len(centres[-1]), stride))
    return Grid(np.concatenate(centres).astype(np.float32), np.concatenate(steps).astype(np.float32))


def decoded(answers: keras.KerasTensor, where: Grid) -> keras.KerasTensor:
    """Boxes (n, l, 4) as x0, y0, x1, y1 in pixels, from `answers` (n, l, 4).

    These are the centre's distance from the location, and the logarithms of width and height, all in strides.
    """
    stride = where.strides[:, None]
    centre = where.centres + answers[..., :2] * stride
    half = ops.exp(ops.minimum(answers[..., 2:], _LARGEST)) * stride / 2
    return ops.concatenate([centre - half, centre + half], axis=-1)


def _area(boxes: keras.KerasTensor) -> keras.KerasTensor:
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def overlap(some: keras.KerasTensor, others: keras.KerasTensor) -> keras.KerasTensor:
    """Intersection over union of boxes (..., 4) with boxes (..., 4) of a shape that broadcasts."""
    low, high = ops.maximum(some[..., :2], others[..., :2]), ops.minimum(some[..., 2:], others[..., 2:])
    sides = ops.maximum(high - low, 0.0)
    both = sides[..., 0] * sides[..., 1]
    return both / ops.maximum(_area(some) + _area(others) - both, 1e-6)


def generalized_overlap(some: keras.KerasTensor, others: keras.KerasTensor) -> keras.KerasTensor:
    """GIoU (arXiv:1902.09630): the overlap, less the share of the box around both that neither covers."""
    low, high = ops.maximum(some[..., :2], others[..., :2]), ops.minimum(some[..., 2:], others[..., 2:])
    sides = ops.maximum(high - low, 0.0)
    both = sides[..., 0] * sides[..., 1]
    union = ops.maximum(_area(some) + _area(others) - both, 1e-6)
    around = ops.maximum(some[..., 2:], others[..., 2:]) - ops.minimum(some[..., :2], others[..., :2])
    whole = ops.maximum(around[..., 0] * around[..., 1], 1e-6)
    return both / union - (whole - union) / whole


def suppressed(boxes: keras.KerasTensor, *, threshold: float) -> keras.KerasTensor:
    """Which of the boxes (n, k, 4), sorted by falling score, are kept (n, k): none overlaps a kept one before it.

    Non-maximum suppression as matrix products (Cluster-NMS, arXiv:2005.03572), of one shape for all inputs. SWEEPS
    are enough for objects that crowd; each sweep mends what the one before took away too much.
    """
    count = boxes.shape[1]
    earlier = np.triu(np.ones((count, count), np.float32), 1)
    near = ops.cast(overlap(boxes[:, :, None], boxes[:, None]) > threshold, "float32") * earlier
    kept = ops.ones_like(boxes[..., 0])
    for _ in range(SWEEPS):
        kept = 1.0 - ops.max(near * kept[..., None], axis=1)
    return kept > 0
