"""Calibration: a temperature for logits, so that answers with a confidence of 0.9 are right nine times out of ten."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from selftrain.errors import PredictionError

_COLDEST, _HOTTEST = 0.001, 10.0  # times the spread of an image's logits
FEWEST = 4
"""Fewer held-out images do not make two folds of two, so they cannot calibrate each other."""


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float32]:
    """Probabilities (n, classes) of `logits` / `temperature`; rows sum to 1.

    >>> softmax(np.array([[0.0, np.log(3.0)]])).round(3).tolist()
    [[0.25, 0.75]]
    """
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probs: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return probs


def negative_log_likelihood(logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float) -> float:
    """Mean of -log p(label) at `temperature`, in nats."""
    scaled = np.asarray(logits, np.float64) / temperature
    return float(np.mean(_log_sum(scaled) - scaled[np.arange(len(labels)), labels]))


def _log_sum(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    """log of the sum of e^`scaled` (n, classes) over the classes, (n,)."""
    top = scaled.max(axis=1)
    sums: NDArray[np.float64] = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
    return sums


def _expected_loss(logits: NDArray[np.floating], targets: NDArray[np.float64], temperature: float) -> float:
    """Mean cross-entropy at `temperature`, in nats, against the probabilities `targets` (n, classes)."""
    scaled = np.asarray(logits, np.float64) / temperature
    return float(np.mean(_log_sum(scaled) - (targets * scaled).sum(axis=1)))


def _targets_of_no_error(labels: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """Targets (n, classes) for n correct answers: (n + 1) / (n + 2) for the label, the rest for the other classes.

    This is Laplace's estimate of the share of right answers. Platt 1999, section 2.2, uses it for the same reason.
    """
    wrong = 1 / (len(labels) + 2)
    targets = np.full((len(labels), classes), wrong / max(1, classes - 1))
    targets[np.arange(len(labels)), labels] = 1 - wrong
    return targets


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature with the lowest negative log-likelihood; logits (n, classes), labels (n,) class indices.

    This is temperature scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2). The search covers a thousandth to ten
    times the spread of an image's logits, so that logits times any factor give the same probabilities. If each image's
    logits are all equal, the temperature is 1.

    If every answer is right, a lower temperature always fits better, and confidences would reach 1. The n images cannot
    support that. Each label then counts as right with probability (n + 1) / (n + 2), and the mean confidence comes near
    it. Raises PredictionError for logits that are not finite, and ValueError without rows or for unequal numbers.
    """
    from scipy.optimize import minimize_scalar

    if len(labels) == 0 or len(labels) != len(logits):
        raise ValueError(f"need as many logits as labels, at least one; got {len(logits)} and {len(labels)}")
    _refuse_not_finite(np.isfinite(logits).all(axis=1), "logits")
    spread = _spread(logits)
    if spread == 0:
        return 1.0
    scaled = np.asarray(logits, np.float64) / spread
    loss = partial(negative_log_likelihood, scaled, labels)
    if (logits[np.arange(len(labels)), labels] >= logits.max(axis=1)).all():
        loss = partial(_expected_loss, scaled, _targets_of_no_error(labels, logits.shape[1]))
    result = minimize_scalar(
        lambda log_t: loss(float(np.exp(log_t))),
        bounds=(np.log(_COLDEST), np.log(_HOTTEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return spread * float(np.exp(result.x))


def _spread(logits: NDArray[np.floating]) -> float:
    """The median over images of the largest minus the smallest logit; images where that is 0 do not count."""
    spreads = np.ptp(np.asarray(logits, np.float64), axis=1)
    spreads = spreads[spreads > 0]
    return float(np.median(spreads)) if spreads.size else 0.0


def _refuse_not_finite(finite: NDArray[np.bool_], what: str) -> None:
    """Raise PredictionError unless all images are `finite` (n,); `what` names what the model answered."""
    if not finite.all():
        raise PredictionError(
            f"{what} of {np.count_nonzero(~finite)} of {len(finite)} images are NaN or infinite: the model has "
            "diverged; train it again with a lower learning_rate or a longer warmup"
        )


def cross_fitted_probs(
    logits: NDArray[np.floating], labels: NDArray[np.integer], *, folds: int = 5, seed: int = 0
) -> NDArray[np.float32]:
    """Probabilities (n, classes), each row's temperature fitted on the other folds' rows only.

    The same few held-out images can then serve calibration and the gate, and none of them judges itself. With fewer
    than 2 rows per fold there are fewer folds. With fewer than FEWEST rows the temperature is 1.
    """
    n = len(labels)
    folds = min(folds, n // 2)
    if n < FEWEST or folds < 2:
        return softmax(logits)
    fold = np.random.default_rng(seed).permutation(n) % folds
    probs = np.empty(logits.shape, np.float32)
    for k in range(folds):
        out = fold == k
        probs[out] = softmax(logits[out], fit_temperature(logits[~out], labels[~out]))
    return probs


@dataclass(frozen=True, eq=False)
class PrecisionCurve:
    """How often answers of each confidence are right: `precision` (k,) never falls as `confidence` (k,) rises.

    Between two confidences it is interpolated linearly. Beyond the ends it stays constant.
    """

    confidence: NDArray[np.float64]
    precision: NDArray[np.float64]

    def at(self, confidence: NDArray[np.floating]) -> NDArray[np.float32]:
        """The precision of each of `confidence` (n,), float32 in 0-1."""
        values: NDArray[np.float32] = np.interp(confidence, self.confidence, self.precision).astype(np.float32)
        return values


def fit_precision(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> PrecisionCurve:
    """The least-squares curve through held-out `confidence` (n,) and whether each answer was `right` (n,).

    This is isotonic regression by pooling adjacent violators, as in Zadrozny and Elkan 2002. Equal confidences are one
    point. Raises PredictionError for confidences that are not finite, and ValueError without rows or for unequal
    numbers.

    >>> curve = fit_precision(np.array([0.9, 0.6, 0.5, 0.8]), np.array([True, False, True, True]))
    >>> curve.at(np.array([0.4, 0.6, 0.7, 1.0])).tolist()
    [0.5, 0.5, 0.75, 1.0]
    """
    from scipy.optimize import isotonic_regression

    if len(confidence) == 0 or len(confidence) != len(right):
        raise ValueError(f"need as many confidences as answers, at least one; got {len(confidence)} and {len(right)}")
    _refuse_not_finite(np.isfinite(confidence), "confidences")
    points, which, counts = np.unique(np.asarray(confidence, np.float64), return_inverse=True, return_counts=True)
    shares = np.bincount(which, np.asarray(right, np.float64)) / counts
    return PrecisionCurve(points, np.clip(isotonic_regression(shares, weights=counts).x, 0.0, 1.0))
