"""Adaptive rules: FreeMatch's thresholds and SoftMatch's weights, which follow the model's confidence.

Each rule has an initial state, an update by one batch, and a function that reads the state. Nothing is kept between
calls. Training updates a state with every batch. A pool's probabilities all come from one teacher. They are read in a
fixed order, again and again, until the initial state no longer matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
MOMENTUM, BATCH_SIZE, STEPS = 0.999, 64, 10_000
"""The papers' momentum and batch size. After 10,000 steps, 0.999**10000 = 0.00005 of the start is left."""


@dataclass(frozen=True, eq=False)
class AdaptiveState:
    """FreeMatch's estimates after some batches: `level` is tau_t, `class_means` (classes,) is p~_t."""

    level: float
    class_means: Doubles


@dataclass(frozen=True)
class GaussianState:
    """SoftMatch's estimates after some batches: `mean` mu_t and `variance` sigma_t^2 of the confidences."""

    mean: float
    variance: float


def fresh_adaptive(classes: int) -> AdaptiveState:
    """FreeMatch's state before the first batch: 1 / classes everywhere, eq. 5 and 6 with t = 0 (arXiv:2205.07246)."""
    return AdaptiveState(1 / classes, np.full(classes, 1 / classes))


def update_adaptive(state: AdaptiveState, probs: npt.ArrayLike, *, momentum: float = MOMENTUM) -> AdaptiveState:
    """`state` after a batch of `probs` (b, classes).

    FreeMatch (arXiv:2205.07246), eq. 5: tau_t = m tau_{t-1} + (1 - m) mean_b max(q_b);
    eq. 6: p~_t(c) = m p~_{t-1}(c) + (1 - m) mean_b q_b(c).

    >>> after = update_adaptive(fresh_adaptive(2), [[0.9, 0.1], [0.7, 0.3]], momentum=0.5)
    >>> round(after.level, 4), after.class_means.round(4).tolist()
    (0.65, [0.65, 0.35])
    """
    batch = np.asarray(probs, np.float64)
    return AdaptiveState(
        momentum * state.level + (1 - momentum) * float(batch.max(axis=1).mean()),
        momentum * state.class_means + (1 - momentum) * batch.mean(axis=0),
    )


def class_thresholds(state: AdaptiveState) -> Doubles:
    """The confidence each class needs, (classes,): eq. 7, tau_t(c) = p~_t(c) / max p~_t * tau_t.

    Eq. 8 accepts max(q) > tau_t(argmax q). The authors' code and every threshold here also accept equality.
    """
    thresholds: Doubles = state.class_means / state.class_means.max() * state.level
    return thresholds


def adaptive_over_pool(
    probs: npt.ArrayLike, *, momentum: float = MOMENTUM, batch_size: int = BATCH_SIZE, steps: int = STEPS
) -> AdaptiveState:
    """The state after at least `steps` batches and one whole pass over `probs` (n, classes), n >= 1, in their order.

    An incomplete last batch is left out, as in training, unless it is the only one.
    """
    batches = _batched(np.asarray(probs, np.float32), batch_size)
    start = fresh_adaptive(batches.shape[2])
    confidence = batches.max(axis=2).mean(axis=1, dtype=np.float64)
    means = batches.mean(axis=1, dtype=np.float64)
    level = _averaged(np.array([start.level]), confidence[:, None], momentum=momentum, steps=steps)
    return AdaptiveState(float(level[0]), _averaged(start.class_means, means, momentum=momentum, steps=steps))


def fresh_gaussian(classes: int) -> GaussianState:
    """SoftMatch's state before the first batch: mean 1 / classes, variance 1 (arXiv:2301.10921, section 3.1)."""
    return GaussianState(1 / classes, 1.0)


def update_gaussian(state: GaussianState, confidence: npt.ArrayLike, *, momentum: float = MOMENTUM) -> GaussianState:
    """`state` after a batch of confidences (b,).

    SoftMatch (arXiv:2301.10921), eq. 6 and 7: mu_t = m mu_{t-1} + (1 - m) mean_b. sigma_t^2 is updated in the same
    way, with the batch's unbiased variance B / (B - 1) sigma_b^2. A batch of one image has variance 0.

    >>> after = update_gaussian(GaussianState(0.5, 1.0), [0.8, 0.6], momentum=0.5)
    >>> round(after.mean, 4), round(after.variance, 4)
    (0.6, 0.51)
    """
    batch = np.asarray(confidence, np.float64)
    spread = float(batch.var(ddof=1)) if batch.size > 1 else 0.0
    return GaussianState(
        momentum * state.mean + (1 - momentum) * float(batch.mean()),
        momentum * state.variance + (1 - momentum) * spread,
    )


def gaussian_weights(confidence: npt.ArrayLike, state: GaussianState, *, n_sigma: float = 2.0) -> Floats:
    """The weight in 0-1 of each of `confidence` (n,): 1 from the mean on, and a Gaussian below it.

    SoftMatch (arXiv:2301.10921), eq. 5, the truncated Gaussian with lambda_max = 1: exp(-(max(p) - mu_t)^2 /
    (2 sigma_t^2)) where max(p) < mu_t. `n_sigma` divides sigma_t. It is 2 in the authors' code; 1 is the equation as
    printed. If the variance is 0, confidences from the mean on have weight 1, and those below have 0.

    >>> gaussian_weights([0.9, 0.8, 0.7], GaussianState(0.8, 0.01), n_sigma=1.0).round(4).tolist()
    [1.0, 1.0, 0.6065000295639038]
    """
    below = np.minimum(np.asarray(confidence, np.float64) - state.mean, 0.0)
    spread = max(2 * state.variance / n_sigma**2, float(np.finfo(np.float64).tiny))
    weights: Floats = np.exp(-(below**2) / spread).astype(np.float32)
    return weights


def gaussian_over_pool(
    confidence: npt.ArrayLike,
    *,
    classes: int,
    momentum: float = MOMENTUM,
    batch_size: int = BATCH_SIZE,
    steps: int = STEPS,
) -> GaussianState:
    """The state after at least `steps` batches and one whole pass over `confidence` (n,), n >= 1, in their order."""
    batches = _batched(np.asarray(confidence, np.float32), batch_size).astype(np.float64)
    spread = batches.var(axis=1, ddof=1) if batches.shape[1] > 1 else np.zeros(len(batches))
    start = fresh_gaussian(classes)
    moments = np.stack([batches.mean(axis=1), spread], axis=1)
    mean, variance = _averaged(np.array([start.mean, start.variance]), moments, momentum=momentum, steps=steps)
    return GaussianState(float(mean), float(variance))


def _batched(values: Floats, batch_size: int) -> Floats:
    """`values` (n, ...) as (batches, batch_size, ...); fewer values than `batch_size` form one smaller batch."""
    size = min(batch_size, len(values))
    count = len(values) // size
    return values[: count * size].reshape(count, size, *values.shape[1:])


def _averaged(start: Doubles, batches: Doubles, *, momentum: float, steps: int) -> Doubles:
    """The exponential average (k,) of `batches` (b, k) from `start` (k,), over whole passes of `steps` or more."""
    count = len(batches)
    passes = max(1, math.ceil(steps / count))
    weights = (1 - momentum) * momentum ** np.arange(count - 1, -1, -1, dtype=np.float64)
    repeated = (1 - momentum ** (passes * count)) / (1 - momentum**count)
    average: Doubles = momentum ** (passes * count) * start + repeated * (weights @ batches)
    return average
