"""Affine maps: where each output pixel comes from. Maps are composed, so that images are interpolated only once."""

from __future__ import annotations

from typing import Literal, NamedTuple

import keras
from keras import ops

Fill = Literal["nearest", "reflect"]


class Affine(NamedTuple):
    """One affine map per image; each field is (n,).

    The output pixel at p is read from the input at [[xx, xy], [yx, yy]] @ p + (x, y). Positions are in pixels from the
    image's centre.
    """

    xx: keras.KerasTensor
    xy: keras.KerasTensor
    yx: keras.KerasTensor
    yy: keras.KerasTensor
    x: keras.KerasTensor
    y: keras.KerasTensor

    def then(self, after: Affine) -> Affine:
        """The map that changes an image by this map first, then by `after`."""
        return Affine(
            xx=self.xx * after.xx + self.xy * after.yx,
            xy=self.xx * after.xy + self.xy * after.yy,
            yx=self.yx * after.xx + self.yy * after.yx,
            yy=self.yx * after.xy + self.yy * after.yy,
            x=self.xx * after.x + self.xy * after.y + self.x,
            y=self.yx * after.x + self.yy * after.y + self.y,
        )

    def matrix(self, size: int) -> keras.KerasTensor:
        """The maps as `keras.ops.image.affine_transform` reads them, (n, 8), for images of `size` pixels a side."""
        centre = (size - 1) / 2
        to_x = centre - (self.xx + self.xy) * centre + self.x
        to_y = centre - (self.yx + self.yy) * centre + self.y
        none = ops.zeros_like(self.xx)
        return ops.stack([self.xx, self.xy, to_x, self.yx, self.yy, to_y, none, none], axis=1)


def gathered(images: keras.KerasTensor, matrix: keras.KerasTensor, *, fill: Fill) -> keras.KerasTensor:
    """Images (n, s, s, c) read bilinearly at `matrix` (n, 8), as `keras.ops.image.affine_transform` does, with gathers.

    TensorFlow needs this on an accelerator, where XLA cannot compile that function's kernel.
    """
    size, channels = images.shape[1], images.shape[3]
    at = ops.arange(size, dtype="float32")
    columns, rows = ops.tile(at, (size,)), ops.repeat(at, size)
    x = _inside(matrix[:, 0:1] * columns + matrix[:, 1:2] * rows + matrix[:, 2:3], size, fill)
    y = _inside(matrix[:, 3:4] * columns + matrix[:, 4:5] * rows + matrix[:, 5:6], size, fill)
    flat = ops.reshape(images, (-1, channels))
    first = ops.cast(ops.arange(ops.shape(images)[0])[:, None] * (size * size), "int32")
    left, top = ops.floor(x), ops.floor(y)
    across, down = (x - left)[..., None], (y - top)[..., None]

    def corner(column: keras.KerasTensor, row: keras.KerasTensor) -> keras.KerasTensor:
        place = ops.minimum(row, size - 1) * size + ops.minimum(column, size - 1)
        return ops.take(flat, first + ops.cast(place, "int32"), axis=0)

    upper = corner(left, top) * (1 - across) + corner(left + 1, top) * across
    lower = corner(left, top + 1) * (1 - across) + corner(left + 1, top + 1) * across
    return ops.reshape(upper * (1 - down) + lower * down, (-1, size, size, channels))


def _inside(place: keras.KerasTensor, size: int, fill: Fill) -> keras.KerasTensor:
    """Positions along one axis; those outside the image are moved inside."""
    if fill == "reflect":
        period = 2 * size
        turned = ops.mod(place + 0.5, period)
        place = ops.minimum(turned, period - turned) - 0.5
    return ops.clip(place, 0.0, size - 1.0)
