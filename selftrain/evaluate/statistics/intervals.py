"""Confidence intervals of a share that was measured on n images."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

from selftrain.errors import InputError


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


def wilson(successes: int, images: int, *, alpha: float = 0.05) -> Interval:
    """The Wilson score interval of `successes` in `images` at level 1 - alpha (Wilson 1927; Newcombe 1998, method 3).

    Raises InputError for zero images, or for more successes than images.

    >>> tuple(round(end, 4) for end in wilson(81, 263))
    (0.2553, 0.3662)
    """
    if not 0 <= successes <= images or images == 0:
        raise InputError(f"{successes} right of {images} images is not a share; give 0 <= right <= images, images > 0")
    z = NormalDist().inv_cdf(1 - alpha / 2)
    share = successes / images
    centre = share + z * z / (2 * images)
    spread = z * math.sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    scale = 1 + z * z / images
    # The interval of a share of exactly 0 or 1 ends there; rounding must not move that end.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == images else (centre + spread) / scale
    return Interval(low, high)


def standard_error(share: float, images: int) -> float:
    """The standard error of a `share` (0-1) measured on `images`. It is above 0 even for a share of 0 or 1.

    The estimate adds two right and two wrong images (Agresti and Coull, The American Statistician 52 (1998),
    119-126).

    >>> round(standard_error(1.0, 96), 3)
    0.014
    """
    expected = (share * images + 2) / (images + 4)
    return math.sqrt(expected * (1 - expected) / images)


def paired_difference(*, both: int, only_first: int, only_second: int, neither: int, alpha: float = 0.05) -> Interval:
    """The interval of the first share minus the second, both measured on the same images.

    The counts are the images on which both are right, only one is, or neither is. This is Newcombe's square-and-add
    score interval (Statistics in Medicine 17 (1998), 2635-2650, method 10). It stays within -1..1 and keeps its level
    even with few images.

    >>> low, high = paired_difference(both=36, only_first=12, only_second=2, neither=0)
    >>> round(low, 4), round(high, 4)
    (0.0569, 0.3404)
    """
    images = both + only_first + only_second + neither
    first, second = both + only_first, both + only_second
    low_1, high_1 = wilson(first, images, alpha=alpha)
    low_2, high_2 = wilson(second, images, alpha=alpha)
    share_1, share_2 = first / images, second / images
    phi = _phi(both, only_first, only_second, neither)
    down = _combined(share_1 - low_1, high_2 - share_2, phi)
    up = _combined(high_1 - share_1, share_2 - low_2, phi)
    return Interval(max(-1.0, share_1 - share_2 - down), min(1.0, share_1 - share_2 + up))


def _combined(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))


def _phi(both: int, only_first: int, only_second: int, neither: int) -> float:
    """The correlation of the two models' right answers, with the continuity correction of Newcombe's method 10."""
    images = both + only_first + only_second + neither
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    numerator = both * neither - only_first * only_second
    corrected = max(numerator - images / 2, 0.0) if numerator > 0 else numerator
    return corrected / math.sqrt(margins)
