"""Affine maps: where each pixel of a batch of images comes from, composed before the images are read once."""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import ops


class Affine(NamedTuple):
    """One map an image, (n,) each: the input's place is [[xx, xy], [yx, yy]] @ the output's, plus (x, y) pixels.

    Places are measured from the image's centre.
    """

    xx: keras.KerasTensor
    xy: keras.KerasTensor
    yx: keras.KerasTensor
    yy: keras.KerasTensor
    x: keras.KerasTensor
    y: keras.KerasTensor

    def then(self, after: Affine) -> Affine:
        """The map of an image that was changed by this map first and by `after` next."""
        return Affine(
            xx=self.xx * after.xx + self.xy * after.yx,
            xy=self.xx * after.xy + self.xy * after.yy,
            yx=self.yx * after.xx + self.yy * after.yx,
            yy=self.yx * after.xy + self.yy * after.yy,
            x=self.xx * after.x + self.xy * after.y + self.x,
            y=self.yx * after.x + self.yy * after.y + self.y,
        )

    def matrix(self, size: int) -> keras.KerasTensor:
        """(n, 8) as `keras.ops.image.affine_transform` reads it, for images of `size` pixels a side."""
        centre = (size - 1) / 2
        to_x = centre - (self.xx + self.xy) * centre + self.x
        to_y = centre - (self.yx + self.yy) * centre + self.y
        none = ops.zeros_like(self.xx)
        return ops.stack([self.xx, self.xy, to_x, self.yx, self.yy, to_y, none, none], axis=1)
