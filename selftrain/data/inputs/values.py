"""Pixel values: the one shape, type and range that all images of a user share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from selftrain.data.inputs.images import Array
from selftrain.errors import SourceError

_OVERSHOOT = 0.1
_FAR = 5.0  # standard errors
_MIRRORED = 0.5  # of the smaller difference
_ENOUGH = 16  # images; a few may be dark
_NARROW, _WIDE = 32.0, 2 * 255.0  # an eighth of 0-255; twice 0-255, more than resizing overshoots


class Scale(IntEnum):
    """The range that pixel values seem to have, from the narrowest to the widest."""

    BLACK = 0
    TO_1 = 1
    TO_255 = 2
    SIGNED = 3


@dataclass(frozen=True)
class PixelValues:
    """The shape and type that all images share, and the range of values in the `images` seen so far."""

    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    images: int

    @property
    def scale(self) -> Scale:
        """The scale of the values; resizing may overshoot it a little."""
        if self.high == 0 == self.low:
            return Scale.BLACK
        if self.low < -_OVERSHOOT * max(self.high, 1.0):
            return Scale.SIGNED
        return Scale.TO_1 if self.high <= 1 + _OVERSHOOT and self.dtype != "uint8" else Scale.TO_255

    @property
    def is_dark(self) -> bool:
        """Whether there are 16 or more images and all look nearly black: values fill at most an eighth of 0-255."""
        return self.scale is Scale.TO_255 and self.high <= _NARROW and self.images >= _ENOUGH

    def warnings(self) -> tuple[str, ...]:
        """A warning for integers that look dark: they may have another range."""
        if self.dtype != "uint8" or not self.is_dark:
            return ()
        return (
            f"pixels reach from {self.low:g} to {self.high:g} and were taken as 0-255, nearly black; if {self.high:g} "
            f"is white, give images * (255 / {self.high:g}), rounded",
        )

    def refuse_range(self, role: str) -> None:
        """Raise SourceError for floats in neither 0-1 nor 0-255; call it after the last image."""
        too_wide = self.scale is Scale.TO_255 and self.high > _WIDE
        if self.dtype != "uint8" and (self.is_dark or too_wide):
            raise SourceError(
                f"{role}: values reach from {self.low:g} to {self.high:g}; allowed are 0-1 and 0-255. As 0-255 "
                f"these would be nearly {'white' if too_wide else 'black'}. For 0-1, divide all by the value of white "
                f"({self.high:g}, if that is it)"
            )

    def refuse_others(self, others: PixelValues, role: str) -> None:
        """Raise SourceError if `others` differ in shape, type or, clearly, in range."""
        if (others.shape, others.dtype) != (self.shape, self.dtype):
            raise SourceError(
                f"{role}: images of shape {others.shape}, type {others.dtype}; those before have {self.shape}, "
                f"{self.dtype}: give all images in one shape and type"
            )
        seen = Scale.BLACK not in (others.scale, self.scale)
        if seen and (others.scale > self.scale or (others.scale < self.scale and others.images >= _ENOUGH)):
            raise SourceError(
                f"{role}: values reach from {others.low:g} to {others.high:g}, those of the images before from "
                f"{self.low:g} to {self.high:g}; prepare all in the same way"
            )


@dataclass(frozen=True)
class Redness:
    """How much redder than blue images are: over `images` of them, the sum of red less blue, and of its square."""

    images: int = 0
    total: float = 0.0
    squares: float = 0.0

    def joined(self, images: Array) -> Redness:
        """With `images` (n, height, width, 3) too; others, without three channels at the end, are left out."""
        if images.ndim != 4 or images.shape[-1] != 3 or not len(images):
            return self
        means = images[..., [0, 2]].mean(axis=(1, 2), dtype=np.float64)
        differences = means[:, 0] - means[:, 1]
        return Redness(
            self.images + len(images),
            self.total + float(differences.sum()),
            self.squares + float((differences**2).sum()),
        )

    @property
    def mean(self) -> float:
        """The mean of red less blue, in the unit of the values."""
        return self.total / self.images

    def is_exchanged(self, others: Redness) -> bool:
        """Whether `others` look like these with red and blue exchanged, as one of two readers of files gives them.

        Both differ from 0 by far more than chance explains, one as far above as the other lies below.
        """
        if min(self.images, others.images) < _ENOUGH or self.mean * others.mean >= 0:
            return False
        alike = abs(self.mean + others.mean) <= _MIRRORED * min(abs(self.mean), abs(others.mean))
        return alike and all(abs(each.mean) > _FAR * each._error for each in (self, others))

    @property
    def _error(self) -> float:
        """The standard error of the mean."""
        variance = max(0.0, self.squares / self.images - self.mean**2)
        return math.sqrt(variance / self.images)


def values_of(images: Array) -> PixelValues:
    """The PixelValues of `images` (n, ...)."""
    low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    return PixelValues(images.shape[1:], str(images.dtype), low, high, len(images))


def join_values(seen: PixelValues | None, images: Array, *, role: str) -> PixelValues:
    """The PixelValues of `seen` (None: nothing yet) and `images`. Raises SourceError if they differ."""
    others = values_of(images)
    if seen is None:
        return others
    seen.refuse_others(others, role)
    low, high = min(seen.low, others.low), max(seen.high, others.high)
    return PixelValues(seen.shape, seen.dtype, low, high, seen.images + others.images)
