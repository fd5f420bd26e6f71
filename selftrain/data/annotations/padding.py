"""Padding: the objects of each image as arrays of one size, as training needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from selftrain.data.annotations.table import Annotations, Int32s, Int64s, Texts, rows_of

PAD = -1
_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class PaddedObjects:
    """The objects of n images, k places each; a place without an object has boxes, labels and rows of -1.

    - `boxes` (n, k, 4) float32: x0, y0, x1, y1 in pixels of the original image
    - `labels` (n, k) int32
    - `crowd` (n, k) bool: regions to ignore
    - `rows` (n, k) int64: the row of each object in its table
    - `dropped` (n,) int64: objects that found no place, the smallest ones
    """

    boxes: npt.NDArray[np.float32]
    labels: Int32s
    crowd: npt.NDArray[np.bool_]
    rows: Int64s
    dropped: Int64s


def padded(annotations: Annotations, image_ids: Texts, *, places: int | None = None) -> PaddedObjects:
    """The objects of these n images in `places` each, the largest first; by default as many as the fullest image has.

    An image without objects has pads alone.
    """
    first, count = annotations.spans(image_ids)
    k = max(int(count.max(initial=0)), 1) if places is None else places
    rows = rows_of(first, count)
    image = np.repeat(np.arange(len(count)), count)
    boxes = annotations.boxes[rows]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = np.lexsort((rows, -area, image))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    kept = place < k
    at = (image[kept], place[kept])  # `order` keeps the images in their order, so `place` counts within each
    chosen = rows[order][kept]
    table = np.full((len(count), k), PAD, np.int64)
    table[at] = chosen
    return PaddedObjects(
        boxes=_filled(annotations.boxes, table),
        labels=_filled(annotations.labels, table),
        crowd=_filled(annotations.crowd, table) & (table >= 0),
        rows=table,
        dropped=np.maximum(count - k, 0),
    )


def _filled(values: npt.NDArray[_Number], rows: Int64s) -> npt.NDArray[_Number]:
    """`values` at `rows` (n, k); -1 where a row is."""
    result = np.full((*rows.shape, *values.shape[1:]), PAD).astype(values.dtype)
    result[rows >= 0] = values[rows[rows >= 0]]
    return result
