"""Outlines: the masks of objects as training and detection see them, cut to their boxes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray
from PIL import Image

from selftrain.data.annotations.run_lengths import pixels_of, placed

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Matrix = NDArray[np.float64]

SIDE = 28
"""Points a side at which a training looks into a box, as Mask R-CNN does (arXiv:1703.06870)."""
UNKNOWN = -1
"""Of points of an object whose mask nobody drew."""


@dataclass(frozen=True, eq=False)
class Outline:
    """The mask of an object: COCO's compressed run lengths for an image `height` by `width`, seen at `scale`."""

    runs: bytes
    height: int
    width: int
    scale: float = 1.0

    @property
    def whole(self) -> dict[str, object]:
        """The mask as pycocotools has it."""
        return {"size": [self.height, self.width], "counts": self.runs}

    @cached_property
    def _kept(self) -> _Kept:
        """The mask's own rectangle, no finer than a training looks at it; so a pool of large masks fits in memory."""
        whole = pixels_of(self.runs, height=self.height, width=self.width) > 0
        rows, columns = np.flatnonzero(whole.any(axis=1)), np.flatnonzero(whole.any(axis=0))
        if not len(rows):
            return _Kept(np.zeros((0, 0), np.uint8), (0, 0), (0, 0), 1)
        top, left = int(rows[0]), int(columns[0])
        step = max(1, int(0.5 / self.scale))  # two points or more for each pixel of the smaller image
        cut = whole[top : rows[-1] + 1 : step, left : columns[-1] + 1 : step]
        return _Kept(np.packbits(cut, axis=1), cut.shape, (left, top), step)

    def at(self, points: NDArray[np.float64]) -> Bools:
        """Whether `points` (..., 2), x and y in pixels of the image at `scale`, lie in the mask."""
        kept = self._kept
        x, y = (np.floor((points[..., k] / self.scale - kept.begin[k]) / kept.step).astype(np.int64) for k in (0, 1))
        inside = (x >= 0) & (y >= 0) & (x < kept.shape[1]) & (y < kept.shape[0])
        found = np.zeros(inside.shape, np.bool_)
        found[inside] = kept.packed[y[inside], x[inside] // 8] >> (7 - x[inside] % 8) & 1
        return found


@dataclass(frozen=True, eq=False)
class _Kept:
    """A mask's rectangle: eight pixels a byte, its `shape` (h, w), where it begins as x and y, and its step."""

    packed: NDArray[np.uint8]
    shape: tuple[int, ...]
    begin: tuple[int, int]
    step: int


def as_texts(masks: NDArray[np.object_]) -> list[dict[str, object]]:
    """The masks (k,) of pycocotools as JSON can hold them: their counts are text."""
    return [{"size": list(each["size"]), "counts": each["counts"].decode("ascii")} for each in masks]


def areas_of(masks: NDArray[np.object_]) -> list[float]:
    """The pixels of each of `masks` (k,), as pycocotools has them."""
    from pycocotools import mask as coco

    return [float(coco.area(each)) for each in masks]  # of a list of more than 255, it raises an OverflowError


def points_in(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """The centres (k, SIDE, SIDE, 2) of the cells of a grid over each of `boxes` (k, 4), as x and y."""
    steps = (np.arange(SIDE) + 0.5) / SIDE
    whole = boxes.astype(np.float64)
    x = whole[:, None, 0] + steps * (whole[:, None, 2] - whole[:, None, 0])
    y = whole[:, None, 1] + steps * (whole[:, None, 3] - whole[:, None, 1])
    return np.stack(np.broadcast_arrays(x[:, None, :], y[:, :, None]), axis=-1)


def patches(outlines: NDArray[np.object_], boxes: Floats, matrix: Matrix) -> NDArray[np.int8]:
    """The masks (k, SIDE, SIDE) in `boxes` (k, 4) of a view that `matrix` shows: 1 inside, 0 outside, or UNKNOWN."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    points = points_in(boxes) @ inverse[:, :2].T + inverse[:, 2]
    out = np.full((len(boxes), SIDE, SIDE), UNKNOWN, np.int8)
    for row, outline in enumerate(outlines):
        if outline is not None:
            out[row] = outline.at(points[row])
    return out


def sampled(maps: keras.KerasTensor, boxes: keras.KerasTensor, stride: int) -> keras.KerasTensor:
    """The values (n, k, SIDE * SIDE) of `maps` (n, k, h, w), each at the points of its box (n, k, 4), by bilinear draw.

    Boxes are in pixels; a cell of a map is `stride` pixels wide. Points outside take the value of the nearest cell.
    """
    height, width = maps.shape[2], maps.shape[3]
    steps = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    low, sides = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    x = (low[..., 0:1] + steps * sides[..., 0:1]) / stride - 0.5
    y = (low[..., 1:2] + steps * sides[..., 1:2]) / stride - 0.5
    x, y = ops.clip(x, 0.0, width - 1.0), ops.clip(y, 0.0, height - 1.0)
    return _between(maps, x, y, height, width)


def _between(
    maps: keras.KerasTensor, x: keras.KerasTensor, y: keras.KerasTensor, height: int, width: int
) -> keras.KerasTensor:
    """Two matrix products: the rows at y (n, k, SIDE), then the columns at x (n, k, SIDE)."""
    rows = ops.maximum(1.0 - ops.abs(y[..., None] - np.arange(height, dtype=np.float32)), 0.0)
    columns = ops.maximum(1.0 - ops.abs(x[..., None] - np.arange(width, dtype=np.float32)), 0.0)
    seen = ops.matmul(ops.matmul(rows, maps), ops.swapaxes(columns, 2, 3))
    return ops.reshape(seen, (-1, maps.shape[1], SIDE * SIDE))


def drawn_masks(
    prototypes: Floats, coefficients: Floats, boxes: Floats, *, stride: int, scale: float, height: int, width: int
) -> NDArray[np.object_]:
    """The masks (k,) of k objects in an image `height` by `width`, each as pycocotools has it: its size and counts.

    `prototypes` (h, w, p) are of the image at `scale`, a cell each `stride` pixels; `coefficients` (k, p) mix them, and
    `boxes` (k, 4), in pixels of the image, cut them. An object whose mask would be empty has its whole box.
    """
    out = np.empty(len(boxes), object)
    for row, box in enumerate(boxes):
        left, top = (max(int(np.floor(side)), 0) for side in box[:2])
        right, bottom = (min(int(np.ceil(side)), most) for side, most in zip(box[2:], (width, height), strict=True))
        inside = _cut(
            prototypes, coefficients[row], (left, top, max(right, left + 1), max(bottom, top + 1)), scale / stride
        )[: height - top, : width - left]
        counts = placed(inside, left=left, top=top, height=height, width=width)
        out[row] = {"size": [height, width], "counts": counts}
    return out


def _cut(prototypes: Floats, mix: Floats, box: tuple[int, int, int, int], scale: float) -> Bools:
    """The mask in a `box` of whole pixels; `scale` is of a pixel in cells."""
    x0, y0, x1, y1 = (side * scale for side in box)
    top, left = max(int(y0) - 1, 0), max(int(x0) - 1, 0)
    part = prototypes[top : int(np.ceil(y1)) + 1, left : int(np.ceil(x1)) + 1]
    logits = Image.fromarray(np.ascontiguousarray(part @ mix, np.float32))
    limits = (
        min(max(x0 - left, 0), part.shape[1]),
        min(max(y0 - top, 0), part.shape[0]),
        min(x1 - left, part.shape[1]),
        min(y1 - top, part.shape[0]),
    )
    size = box[2] - box[0], box[3] - box[1]
    values = np.asarray(logits.resize(size, Image.Resampling.BILINEAR, box=limits))
    return values > 0 if (values > 0).any() else np.ones_like(values, np.bool_)
