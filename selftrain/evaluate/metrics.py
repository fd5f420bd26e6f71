"""Metrics: the accuracy and calibration of class probabilities against human labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selftrain.evaluate.probabilities import Floats, checked_labels, checked_probs

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CALIBRATION_BINS = 15
LOWEST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Probabilities are float32. A softmax that rounds to 0 costs -log(1.2e-7) = 15.9, not infinity."""


def confusion_matrix(labels: npt.ArrayLike, probs: npt.ArrayLike) -> Ints:
    """Counts int64 (classes, classes) for `labels` (n,) and `probs` (n, classes): rows are true, columns predicted.

    Raises PredictionError for invalid probabilities or labels, as every metric here does.

    >>> confusion_matrix([0, 0, 1], [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
    array([[1, 1],
           [0, 1]])
    """
    truth, table = _checked(labels, probs)
    classes = table.shape[1]
    return np.bincount(truth * classes + table.argmax(axis=1), minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class ClassMetrics:
    """Images (`support`), precision, recall and F1 per class, (classes,); NaN where the denominator is 0."""

    support: Ints
    precision: Doubles
    recall: Doubles
    f1: Doubles


def per_class(confusion: Ints) -> ClassMetrics:
    """The scores of each class of a `confusion` matrix (classes, classes).

    Precision is undefined for a class never predicted, recall for one without images, F1 for one with neither.
    """
    right = np.diagonal(confusion).astype(np.float64)
    support = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    return ClassMetrics(
        support=support,
        precision=_ratio(right, predicted),
        recall=_ratio(right, support),
        f1=_ratio(2 * right, support + predicted),
    )


def accuracy(labels: npt.ArrayLike, probs: npt.ArrayLike) -> float:
    """The share of images whose most probable class is their label."""
    confusion = confusion_matrix(labels, probs)
    return float(np.trace(confusion) / confusion.sum())


def macro_f1(labels: npt.ArrayLike, probs: npt.ArrayLike) -> float:
    """The mean F1 of the classes that occur as a label or a prediction: scikit-learn's 'macro'."""
    return float(np.nanmean(per_class(confusion_matrix(labels, probs)).f1))


@dataclass(frozen=True)
class CalibrationBins:
    """Equal-width bins of confidence: `count` (bins,), mean `confidence` and `accuracy` per bin, NaN if empty."""

    count: Ints
    confidence: Doubles
    accuracy: Doubles


def calibration_bins(labels: npt.ArrayLike, probs: npt.ArrayLike, *, bins: int = CALIBRATION_BINS) -> CalibrationBins:
    """The calibration of `probs` (n, classes) against `labels` (n,), in `bins` equal-width bins (low, high]."""
    truth, table = _checked(labels, probs)
    confidence = table.max(axis=1).astype(np.float64)
    right = (table.argmax(axis=1) == truth).astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    return CalibrationBins(
        count=count,
        confidence=_ratio(np.bincount(index, confidence, bins), count),
        accuracy=_ratio(np.bincount(index, right, bins), count),
    )


def expected_calibration_error(labels: npt.ArrayLike, probs: npt.ArrayLike, *, bins: int = CALIBRATION_BINS) -> float:
    """The mean |accuracy - confidence| over equal-width bins of confidence, weighted by their image counts.

    Guo et al., On Calibration of Modern Neural Networks (arXiv:1706.04599), eq. 3.
    """
    table = calibration_bins(labels, probs, bins=bins)
    filled = table.count > 0
    gaps = np.abs(table.accuracy[filled] - table.confidence[filled])
    return float(np.sum(table.count[filled] / table.count.sum() * gaps))


def log_loss(labels: npt.ArrayLike, probs: npt.ArrayLike) -> float:
    """The mean of -log p(true class), with the natural logarithm; p is clipped at LOWEST_PROBABILITY."""
    truth, table = _checked(labels, probs)
    of_true = table[np.arange(len(truth)), truth].astype(np.float64)
    return float(-np.log(np.clip(of_true, LOWEST_PROBABILITY, 1.0)).mean())


def brier_score(labels: npt.ArrayLike, probs: npt.ArrayLike) -> float:
    """The mean squared distance to the one-hot label, from 0 (best) to 2 (Brier 1950, eq. 2)."""
    truth, table = _checked(labels, probs)
    distance = table.astype(np.float64)
    distance[np.arange(len(truth)), truth] -= 1.0
    return float(np.square(distance).sum(axis=1).mean())


def _checked(labels: npt.ArrayLike, probs: npt.ArrayLike) -> tuple[Ints, Floats]:
    table = checked_probs(probs)
    return checked_labels(labels, images=len(table), classes=table.shape[1]), table


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Doubles:
    over = np.asarray(whole, dtype=np.float64)
    shares: Doubles = np.full(over.shape, np.nan)
    return np.divide(part, over, out=shares, where=over > 0)
