"""Given pixels: one shape, one type, one range of values for all images of an analysis."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from selftrain.data.given import Array
from selftrain.errors import SourceError

_OVERSHOOT = 0.1
_ENOUGH = 16  # images; a few may be dark


class Scale(IntEnum):
    """What pixel values look like, from the narrowest range to the widest."""

    BLACK = 0
    TO_1 = 1
    TO_255 = 2
    SIGNED = 3


@dataclass(frozen=True)
class Pixels:
    """What all images of an analysis share: one's shape, type, and the values seen in `images` of them."""

    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    images: int

    @property
    def scale(self) -> Scale:
        """What the values look like; resizing may overshoot a little."""
        if self.high == 0 == self.low:
            return Scale.BLACK
        if self.low < -_OVERSHOOT * max(self.high, 1.0):
            return Scale.SIGNED
        return Scale.TO_1 if self.high <= 1 + _OVERSHOOT and self.dtype != "uint8" else Scale.TO_255

    def with_values(self, images: Array, role: str) -> Pixels:
        """These and `images`; SourceError where they do not go together."""
        others = pixels_of(images)
        self.refuse_others(others, role)
        low, high = min(self.low, others.low), max(self.high, others.high)
        return Pixels(self.shape, self.dtype, low, high, self.images + others.images)

    def refuse_others(self, others: Pixels, role: str) -> None:
        """Raise SourceError where `others` have another shape or type, or values of quite another range."""
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


def pixels_of(images: Array) -> Pixels:
    """The Pixels of `images` (n, ...)."""
    low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    return Pixels(images.shape[1:], str(images.dtype), low, high, len(images))
