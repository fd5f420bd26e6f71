"""Rate range: the test for the learning rate at which the loss falls most steeply."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selftrain.errors import NoFallError, TrainingDivergedError
from selftrain.progress import Progress, silent

Floats = NDArray[np.float64]

_MEMORY = 0.1  # share of the steps in an averaged loss
_WORSE = 4.0  # times the lowest loss, where the test stops
_FEWEST = 10  # losses that show a slope
_DECADE = 10.0  # the suggestion is at most this factor below the rate of the lowest averaged loss
_ERRORS = 3.0  # standard errors that the loss must fall


@dataclass(frozen=True)
class RateRange:
    """A range test: `rates` (k,), `losses` (k,), their averages `smooth` (k,), and the suggested rate."""

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
    """Train by `step` (a rate to that step's loss) while the rate grows from `low` to `high`, by one factor per step.

    This is the range test of Smith 2017 (arXiv:1506.01186, section 3.3), with fastai's exponential growth. It ends when
    the averaged loss is four times its lowest, or the loss is not finite. Raises TrainingDivergedError for fewer than
    ten finite losses. Raises NoFallError if the loss does not fall at any rate.
    """
    rates, memory = np.geomspace(low, high, steps), max(1, round(_MEMORY * steps))
    losses: list[float] = []
    averaged: list[float] = []
    for done, rate in enumerate(rates, start=1):
        loss = step(float(rate))
        if not math.isfinite(loss):
            break
        losses.append(loss)
        averaged.append(_averaged(losses, memory))
        progress(done, steps, f"rate {rate:.1e}, loss {averaged[-1]:.3f}")
        if len(losses) > _FEWEST and averaged[-1] > _WORSE * min(averaged):
            break
    if len(losses) < _FEWEST:
        raise TrainingDivergedError(
            f"the loss was finite for {len(losses)} steps only, at rates from {low:.1e}; check the data or start lower"
        )
    tested, values, smooth = rates[: len(losses)], np.asarray(losses), np.asarray(averaged)
    return RateRange(tested, values, smooth, suggested(tested, values, smooth, memory=memory))


def suggested(rates: Floats, losses: Floats, smooth: Floats, *, memory: int) -> float:
    """The rate of the steepest descent in the decade that ends at the lowest averaged loss.

    `rates` (k,) grow by one factor per step. `smooth` (k,) are the `losses` (k,), averaged over about `memory` of them.
    The first `memory` averages hold few losses each and are skipped. The decade begins at fastai's `minimum`
    suggestion, a tenth of the rate at the lowest average. A straight line is fitted to neighbouring averages. The
    suggestion is where it falls most per factor of the rate.

    Raises NoFallError for a fall that may be chance. The lowest average must come at least a decade after the skipped
    ones. It must also lie three standard errors below the mean loss at rates too low to train.
    """
    settled = min(memory, len(smooth) - 1)
    lowest = settled + int(smooth[settled:].argmin())
    start = float(losses[: max(settled, lowest // 2)].mean())
    least_fall = _ERRORS * _error(losses, lowest, memory)
    if rates[lowest] < _DECADE * rates[settled] or start - smooth[lowest] <= least_fall:
        raise NoFallError(
            f"no learning rate from {rates[0]:.1e} to {rates[-1]:.1e} lowers the loss by more than chance (at most "
            f"from {start:.3f} to {smooth[lowest]:.3f}); keep your rate, or test again with more range_steps"
        )
    first = min(lowest - 1, int(np.searchsorted(rates, rates[lowest] / _DECADE)))
    slopes = _slopes(smooth, reach=max(2, memory // 2))[first:lowest]
    return float(rates[first + int(slopes.argmin())])


def _error(losses: Floats, lowest: int, memory: int) -> float:
    """Standard error of the fall from the mean of the first losses to the average at `lowest`.

    The spread is that of the differences between neighbours. A slow fall does not widen it (von Neumann).
    """
    spread = float(np.diff(losses[: lowest + 1]).std()) / math.sqrt(2)
    return spread * math.sqrt(1 / max(memory, lowest // 2) + 1 / (2 * memory - 1))


def _averaged(losses: list[float], memory: int) -> float:
    """The exponential average of all `losses`, corrected for its start at zero."""
    weights = (1 - 1 / memory) ** np.arange(len(losses) - 1, -1, -1)
    return float((weights * losses).sum() / weights.sum())


def _slopes(smooth: Floats, *, reach: int) -> Floats:
    """The slope, at each position, of the straight line through the losses within `reach` positions."""
    slopes = np.empty(len(smooth))
    for at in range(len(smooth)):
        near = slice(max(0, at - reach), at + reach + 1)
        slopes[at] = np.polyfit(np.arange(len(smooth))[near], smooth[near], 1)[0]
    return slopes
