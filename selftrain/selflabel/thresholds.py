"""Thresholds: which of a teacher's predictions are sure enough to become pseudo-labels."""

from __future__ import annotations

import difflib
from typing import assert_never

import numpy as np
import numpy.typing as npt

from selftrain.config import Fixed, PerClass, Quantile, Threshold
from selftrain.errors import ConfigError
from selftrain.evaluate.probabilities import checked_probs

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def accept(probs: npt.ArrayLike, threshold: Threshold, *, round_index: int, class_names: tuple[str, ...]) -> Mask:
    """Which rows of `probs` (n, classes) `threshold` accepts in round `round_index` (the first student's is 1).

    The confidence of a prediction is its largest probability; rows with a confidence equal to the threshold pass.
    Raises PredictionError for probabilities that are none, ConfigError for a per-class name that is no class.

    >>> accept([[0.95, 0.05], [0.4, 0.6]], Fixed(value=0.9), round_index=1, class_names=("cat", "dog"))
    array([ True, False])
    """
    table = checked_probs(probs, classes=len(class_names))
    confidence = table.max(axis=1)
    match threshold:
        case Fixed(value=value):
            return above(confidence, value)
        case PerClass(values=values, default=default):
            return above_own_class(confidence, table.argmax(axis=1), class_cutoffs(values, default, class_names))
        case Quantile():
            return most_confident(confidence, curriculum_share(threshold, round_index))
        case _:
            assert_never(threshold)


def above(confidence: Floats, value: float | None) -> Mask:
    """Confidence (n,) of at least `value`: max(q) >= tau, FixMatch (arXiv:2001.07685), eq. 4; None accepts all."""
    if value is None:
        return np.ones(confidence.shape, dtype=np.bool_)
    return confidence >= np.float32(value)


def above_own_class(confidence: Floats, labels: npt.NDArray[np.int64], values: Floats) -> Mask:
    """Confidence (n,) of at least the value (classes,) of the class predicted in `labels` (n,)."""
    return confidence >= values[labels]


def most_confident(confidence: Floats, share: float) -> Mask:
    """The `share` of rows with the highest confidence, rounded up; among equals the earlier rows.

    The percentile rule of curriculum labelling (arXiv:2001.06001, algorithm 1), but by rank: calibrated confidences
    pile up at 1, where a percentile would let in every row of the pile.

    >>> most_confident(np.float32([0.5, 0.9, 0.9, 0.7]), 0.5)
    array([False,  True,  True, False])
    """
    # The subtrahend keeps 0.2 + 0.2 * 2 = 0.6000000000000001 from accepting a row too many.
    count = int(np.ceil(share * confidence.size - 1e-9))
    accepted = np.zeros(confidence.shape, dtype=np.bool_)
    accepted[np.argsort(-confidence, kind="stable")[:count]] = True
    return accepted


def curriculum_share(threshold: Quantile, round_index: int) -> float:
    """The share of the pool that round `round_index` (from 1) accepts.

    >>> [round(curriculum_share(Quantile(start=0.2, step=0.3), index), 2) for index in (1, 2, 3, 4)]
    [0.2, 0.5, 0.8, 1.0]
    """
    return min(1.0, threshold.start + threshold.step * max(0, round_index - 1))


def class_cutoffs(values: dict[str, float], default: float, class_names: tuple[str, ...]) -> Floats:
    """The confidence each class needs, float32 (classes,); ConfigError for a name that is no class."""
    for name in values:
        if name not in class_names:
            near = difflib.get_close_matches(name, class_names, n=1, cutoff=0.0)
            raise ConfigError(
                f"pseudo_label.threshold.values names {name!r}, which is no class; did you mean {near[0]!r}? "
                f"The classes: {', '.join(class_names[:20])}{', ...' if len(class_names) > 20 else ''}"
            )
    return np.array([values.get(name, default) for name in class_names], dtype=np.float32)


def check_classes(threshold: Threshold, class_names: tuple[str, ...]) -> None:
    """Raise ConfigError for a class that `threshold` names and the data does not have."""
    if isinstance(threshold, PerClass):
        class_cutoffs(threshold.values, threshold.default, class_names)


def cutoffs(probs: npt.ArrayLike, threshold: Threshold, *, round_index: int, class_names: tuple[str, ...]) -> Floats:
    """The lowest confidence that passes for each class, float32 (classes,): what a chart draws in.

    A quantile's depends on the pool: its lowest accepted confidence, 1 where nothing was accepted.
    """
    match threshold:
        case Fixed(value=value):
            return np.full(len(class_names), value or 0.0, dtype=np.float32)
        case PerClass(values=values, default=default):
            return class_cutoffs(values, default, class_names)
        case Quantile():
            accepted = accept(probs, threshold, round_index=round_index, class_names=class_names)
            confidence = np.asarray(probs, dtype=np.float32).max(axis=1)
            lowest = confidence[accepted].min() if accepted.any() else np.float32(1.0)
            return np.full(len(class_names), lowest, dtype=np.float32)
        case _:
            assert_never(threshold)


def describe(threshold: Threshold, *, round_index: int) -> str:
    """`threshold` in a few words, as status and charts show it.

    >>> describe(Fixed(value=0.9), round_index=1), describe(Fixed(value=None), round_index=1)
    ('0.9', 'none')
    >>> describe(PerClass(values={"cat": 0.8}), round_index=1), describe(Quantile(), round_index=2)
    ('per class: cat 0.8, others 0.9', 'top 40 %')
    """
    match threshold:
        case Fixed(value=value):
            return "none" if value is None else f"{value:g}"
        case PerClass(values=values, default=default):
            own = "".join(f"{name} {value:g}, " for name, value in list(values.items())[:5])
            more = f"{len(values) - 5} more, " if len(values) > 5 else ""
            return f"per class: {own}{more}others {default:g}"
        case Quantile():
            return f"top {100 * curriculum_share(threshold, round_index):.4g} %"
        case _:
            assert_never(threshold)
