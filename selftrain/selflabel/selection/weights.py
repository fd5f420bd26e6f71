"""Weights: how much each accepted pseudo-label counts in the student's loss."""

from __future__ import annotations

from typing import assert_never

import numpy as np
import numpy.typing as npt

from selftrain.config import PseudoLabel
from selftrain.errors import ConfigError
from selftrain.evaluate.coverage import HeldOut
from selftrain.learn.models.calibrate import fit_precision
from selftrain.selflabel.selection.adaptive import gaussian_over_pool, gaussian_weights

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def weigh(
    confidence: Floats, predicted: Ints, kept: Mask, settings: PseudoLabel, *, held_out: HeldOut | None, classes: int
) -> Floats:
    """The weights (n,) that `settings` give a pool's `kept` (n,) rows; the other rows have 0.

    `held_out` holds the same teacher's answers to images with human labels. Raises ConfigError if `settings` need it
    and it is None.
    """
    copies = repeats(predicted, kept, per_class=settings.max_per_class, at_most=settings.duplicate_up_to)
    match settings.weight:
        case "one":
            each = copies
        case "precision":
            each = copies * by_precision(confidence, held_out)
        case "softmatch":
            each = copies * by_softmatch(confidence, classes=classes)
        case _:
            assert_never(settings.weight)
    weights: Floats = np.where(kept, each, np.float32(0))
    return weights


def by_precision(confidence: Floats, held_out: HeldOut | None) -> Floats:
    """The weight in 0-1 of each of `confidence` (n,): how often held-out answers of that confidence are right.

    Raises ConfigError without held-out images.
    """
    if held_out is None:
        raise ConfigError("pseudo_label.weight is 'precision', which needs held-out human labels; there are none")
    return fit_precision(held_out.confidence, held_out.right).at(confidence)


def by_softmatch(confidence: Floats, *, classes: int) -> Floats:
    """SoftMatch's truncated Gaussian of each of a pool's `confidence` (n,), with the pool's mean and variance.

    SoftMatch (arXiv:2301.10921), eq. 5: see `adaptive.gaussian_weights`.
    """
    if not confidence.size:
        return confidence
    return gaussian_weights(confidence, gaussian_over_pool(confidence, classes=classes))


def repeats(labels: Ints, kept: Mask, *, per_class: int | None, at_most: int) -> Floats:
    """How many copies of each image of a pool a student sees, float32 (n,): more than one for rare classes.

    Noisy Student (arXiv:1911.04252), section 3.1, data balancing: the images of small classes are duplicated until all
    classes have the same number. Here a copy is a weight, so every image stays one row.

    - `labels` (n,): the predicted class of each row.
    - `kept` (n,): the rows that are pseudo-labels.
    - `per_class`: how many images each class should count for; None for as many as the largest class has.
    - `at_most`: the most copies of one image, so that one wrong answer does not count a hundred times.

    >>> repeats(np.array([0, 0, 0, 1, 2]), np.array([True] * 4 + [False]), per_class=None, at_most=2).tolist()
    [1.0, 1.0, 1.0, 2.0, 1.0]
    """
    counts = np.bincount(labels[kept], minlength=int(labels.max(initial=0)) + 1)
    wanted = int(counts.max(initial=0)) if per_class is None else per_class
    copies = np.clip(np.divide(wanted, counts, out=np.ones(len(counts)), where=counts > 0), 1, at_most)
    each: Floats = copies.astype(np.float32)[labels]
    return each
