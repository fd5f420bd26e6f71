"""Thresholds: which of a teacher's predictions are confident enough to become pseudo-labels."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt

from selftrain.config import Adaptive, Fixed, PerClass, Quantile, TargetPrecision, Threshold
from selftrain.errors import ConfigError
from selftrain.evaluate.coverage import HeldOut
from selftrain.evaluate.probabilities import checked_probs
from selftrain.selflabel.selection import target_precision
from selftrain.selflabel.selection.adaptive import adaptive_over_pool, class_thresholds

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Acceptance:
    """The result of a threshold: which rows of a pool are `accepted` (n,), and `findings` for the record.

    `cutoffs` (classes,) holds the lowest confidence that passes for each class, infinite where nothing passes.
    """

    accepted: Mask
    cutoffs: Floats
    findings: tuple[str, ...] = ()


def decide(
    probs: npt.ArrayLike,
    threshold: Threshold,
    *,
    round_index: int,
    class_names: tuple[str, ...],
    held_out: HeldOut | None = None,
) -> Acceptance:
    """Apply `threshold` to a pool's `probs` (n, classes) in round `round_index` (the first student's is 1).

    The confidence of a prediction is its largest probability. Rows whose confidence equals the threshold pass.
    `held_out` holds the same teacher's answers to images with human labels; a target precision needs it. Raises
    PredictionError for invalid probabilities. Raises ConfigError for an unknown class name and for missing held-out
    labels.
    """
    table = checked_probs(probs, classes=len(class_names))
    confidence, predicted = table.max(axis=1), table.argmax(axis=1)
    findings: tuple[str, ...] = ()
    match threshold:
        case Fixed(value=value):
            needed = np.full(len(class_names), value or 0.0, np.float32)
        case PerClass(values=values, default=default):
            needed = class_cutoffs(values, default, class_names)
        case Quantile():
            accepted = most_confident(confidence, curriculum_share(threshold, round_index))
            lowest = confidence[accepted].min(initial=np.float32(np.inf))
            return Acceptance(accepted, np.full(len(class_names), lowest, np.float32))
        case TargetPrecision():
            needed, findings = _precise(confidence, predicted, threshold, class_names, held_out)
        case Adaptive():
            needed = adaptive_cutoffs(table, threshold)
        case _:
            assert_never(threshold)
    return Acceptance(above_own_class(confidence, predicted, needed), needed, findings)


def accept(
    probs: npt.ArrayLike,
    threshold: Threshold,
    *,
    round_index: int,
    class_names: tuple[str, ...],
    held_out: HeldOut | None = None,
) -> Mask:
    """Which rows of `probs` (n, classes) `threshold` accepts; see `decide`.

    >>> accept([[0.95, 0.05], [0.4, 0.6]], Fixed(value=0.9), round_index=1, class_names=("cat", "dog"))
    array([ True, False])
    """
    return decide(probs, threshold, round_index=round_index, class_names=class_names, held_out=held_out).accepted


def above_own_class(confidence: Floats, predicted: Ints, needed: Floats) -> Mask:
    """Which of `confidence` (n,) reach the confidence `needed` (classes,) for their `predicted` class (n,).

    Where all classes need the same, this is max(q) >= tau of FixMatch (arXiv:2001.07685), eq. 4.
    """
    return confidence >= needed[predicted]


def most_confident(confidence: Floats, share: float) -> Mask:
    """The `share` of rows with the highest confidence, rounded up; earlier rows win ties.

    This is the percentile rule of curriculum labelling (arXiv:2001.06001, algorithm 1), but by rank. Many calibrated
    confidences are exactly 1, and a percentile there would accept all of them.

    >>> most_confident(np.float32([0.5, 0.9, 0.9, 0.7]), 0.5)
    array([False,  True,  True, False])
    """
    # Without the subtrahend, 0.2 + 0.2 * 2 = 0.6000000000000001 would accept one row too many.
    count = int(np.ceil(share * confidence.size - 1e-9))
    accepted = np.zeros(confidence.shape, dtype=np.bool_)
    accepted[np.argsort(-confidence, kind="stable")[:count]] = True
    return accepted


def within_quota(passed: Mask, confidence: Floats, labels: Ints, *, max_per_class: int | None) -> Mask:
    """The most confident `max_per_class` of the `passed` rows (n,) of each predicted class; earlier rows win ties.

    >>> within_quota(np.array([True] * 3), np.float32([0.7, 0.9, 0.8]), np.array([1, 1, 0]), max_per_class=1)
    array([False,  True,  True])
    """
    if max_per_class is None:
        return passed
    rows = np.flatnonzero(passed)
    rows = rows[np.lexsort((-confidence[rows], labels[rows]))]
    sorted_labels = labels[rows]
    rank_in_class = np.arange(rows.size) - np.searchsorted(sorted_labels, sorted_labels, side="left")
    kept = np.zeros_like(passed)
    kept[rows[rank_in_class < max_per_class]] = True
    return kept


def curriculum_share(threshold: Quantile, round_index: int) -> float:
    """The share of the pool that round `round_index` (from 1) accepts.

    >>> [round(curriculum_share(Quantile(start=0.2, step=0.3), index), 2) for index in (1, 2, 3, 4)]
    [0.2, 0.5, 0.8, 1.0]
    """
    return min(1.0, threshold.start + threshold.step * max(0, round_index - 1))


def class_cutoffs(values: dict[str, float], default: float, class_names: tuple[str, ...]) -> Floats:
    """The confidence that each class needs, float32 (classes,). Raises ConfigError for an unknown class name."""
    for name in values:
        if name not in class_names:
            near = difflib.get_close_matches(name, class_names, n=1, cutoff=0.0)
            raise ConfigError(
                f"pseudo_label.threshold.values names {name!r}, which is not a class; did you mean {near[0]!r}? "
                f"The classes: {', '.join(class_names[:20])}{', ...' if len(class_names) > 20 else ''}"
            )
    return np.array([values.get(name, default) for name in class_names], dtype=np.float32)


def check_classes(threshold: Threshold, class_names: tuple[str, ...]) -> None:
    """Raise ConfigError if `threshold` names a class that the data does not have."""
    if isinstance(threshold, PerClass):
        class_cutoffs(threshold.values, threshold.default, class_names)


def adaptive_cutoffs(probs: Floats, threshold: Adaptive) -> Floats:
    """The confidence each class needs after FreeMatch's averages have passed over `probs` (n, classes), in order.

    FreeMatch (arXiv:2205.07246), eq. 5-8: see `adaptive`. An empty pool leaves the averages at their start.
    """
    classes = probs.shape[1]
    if not len(probs):
        return np.full(classes, 1 / classes, np.float32)
    state = adaptive_over_pool(
        probs, momentum=threshold.momentum, batch_size=threshold.batch_size, steps=threshold.steps
    )
    return class_thresholds(state).astype(np.float32)


def describe_threshold(threshold: Threshold, *, round_index: int) -> str:
    """`threshold` in a few words, as status and charts show it.

    >>> describe_threshold(Fixed(value=0.9), round_index=1), describe_threshold(Fixed(value=None), round_index=1)
    ('0.9', 'none')
    >>> describe_threshold(PerClass(values={"cat": 0.8}), round_index=1), describe_threshold(Quantile(), round_index=2)
    ('per class: cat 0.8, others 0.9', 'top 40 %')
    >>> describe_threshold(TargetPrecision(target=0.9), round_index=1), describe_threshold(Adaptive(), round_index=1)
    ('precision 0.9', 'adaptive')
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
        case TargetPrecision(target=target):
            return f"precision {target:g}"
        case Adaptive():
            return "adaptive"
        case _:
            assert_never(threshold)


def _precise(
    confidence: Floats,
    predicted: Ints,
    threshold: TargetPrecision,
    class_names: tuple[str, ...],
    held_out: HeldOut | None,
) -> tuple[Floats, tuple[str, ...]]:
    if held_out is None:
        raise ConfigError(
            "pseudo_label.threshold is target_precision, which needs human labels that the teacher did not learn from; "
            "there are none: hold images out (splitting.validation), or set a threshold of kind fixed"
        )
    target, alpha = threshold.target, threshold.alpha
    rules = target_precision.rules(
        confidence, predicted, held_out, target=target, alpha=alpha, per_class=threshold.per_class
    )
    findings = target_precision.precision_findings(rules, target=target, alpha=alpha, class_names=class_names)
    return target_precision.rule_cutoffs(rules, classes=len(class_names)), findings
