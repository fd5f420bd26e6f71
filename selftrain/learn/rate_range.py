"""The learning-rate range test: the loss while the rate rises, and the rate at which it falls most steeply."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selftrain.errors import TrainingDivergedError
from selftrain.progress import Progress, silent

Floats = NDArray[np.float64]

_SMOOTHING = 0.9  # momentum of the averaged loss
_WORSE = 4.0  # times the lowest loss, where the test stops
_FEWEST = 10  # losses that tell a slope


@dataclass(frozen=True)
class RateRange:
    """A range test: `rates` (k,), the `losses` (k,) as they came and averaged (`smooth`), and the rate it suggests."""

    rates: Floats
    losses: Floats
    smooth: Floats
    suggestion: float


def range_test(
    step: Callable[[float], float],
    *,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
    progress: Progress = silent,
) -> RateRange:
    """Train by `step` (a rate to that step's loss) while the rate grows from `low` to `high` by one factor a step.

    Smith 2017 (arXiv:1506.01186, section 3.3), as fastai does it: exponentially, the loss averaged, until it is four
    times its lowest or not finite. Raises TrainingDivergedError where that is before ten steps.
    """
    rates = np.geomspace(low, high, steps)
    losses: list[float] = []
    averaged: list[float] = []
    for done, rate in enumerate(rates, start=1):
        loss = step(float(rate))
        if not math.isfinite(loss):
            break
        losses.append(loss)
        averaged.append(_averaged(losses))
        progress(done, steps, f"rate {rate:.1e}, loss {averaged[-1]:.3f}")
        if len(losses) > _FEWEST and averaged[-1] > _WORSE * min(averaged):
            break
    if len(losses) < _FEWEST:
        raise TrainingDivergedError(
            f"the loss was finite for {len(losses)} steps only, at rates from {low:.1e}; check the data or start lower"
        )
    smooth = np.asarray(averaged)
    return RateRange(rates[: len(losses)], np.asarray(losses), smooth, suggested(rates[: len(losses)], smooth))


def suggested(rates: Floats, smooth: Floats) -> float:
    """The rate of the steepest descent in the longest valley of averaged losses (k,); `rates` (k,) grow by a factor.

    The valley is fastai's: the longest subsequence of falling losses. Within it, where a straight line through
    neighbouring losses falls most for a factor of the rate.
    """
    first, last = _valley(smooth)
    slopes = _slopes(smooth)[first : last + 1]
    return float(rates[first + int(slopes.argmin())])


def _averaged(losses: list[float]) -> float:
    """The exponential average of all `losses`, its beginning at zero corrected."""
    weights = _SMOOTHING ** np.arange(len(losses) - 1, -1, -1)
    return float((weights * losses).sum() / weights.sum())


def _valley(smooth: Floats) -> tuple[int, int]:
    """First and last position of the longest falling subsequence; the earliest of equally long ones."""
    length = np.ones(len(smooth), np.int64)
    before = np.arange(len(smooth))
    for i in range(1, len(smooth)):
        higher = np.flatnonzero(smooth[:i] > smooth[i])
        if higher.size:
            best = int(higher[length[higher].argmax()])
            length[i], before[i] = length[best] + 1, best
    last = int(length.argmax())
    first = last
    while before[first] != first:
        first = int(before[first])
    return first, last


def _slopes(smooth: Floats, reach: int = 2) -> Floats:
    """At each position, the slope of the straight line fitted to the losses within `reach` positions."""
    slopes = np.empty(len(smooth))
    for at in range(len(smooth)):
        near = slice(max(0, at - reach), at + reach + 1)
        slopes[at] = np.polyfit(np.arange(len(smooth))[near], smooth[near], 1)[0]
    return slopes
