"""Evaluation: every number a report or a gate needs, from human labels and calibrated probabilities."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import assert_never

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from selftrain.config import Metric
from selftrain.evaluate import metrics
from selftrain.evaluate.intervals import Interval, paired_difference, wilson
from selftrain.evaluate.probabilities import checked_labels, checked_probs
from selftrain.evaluate.significance import mcnemar


class Facts(BaseModel):
    """A frozen value that is written as JSON and read back."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ComparisonResult(StrEnum):
    """What a paired comparison shows at its level."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


class Comparison(Facts):
    """A model against a reference on the same images, by any `metric`.

    `difference` is the metric's value minus the reference's, with its paired interval at level 1 - alpha. `p_value` is
    two-sided, by the test that is named. For accuracy, `n10` images are right by the model alone and `n01` by the
    reference alone; other metrics have no such counts.
    """

    metric: str = "accuracy"
    reference: float
    reference_interval: Interval
    difference: float
    difference_interval: Interval
    p_value: float
    alpha: float
    test: str = "McNemar"
    n10: int | None = None
    n01: int | None = None

    @property
    def finding(self) -> ComparisonResult:
        """Better or worse only where the p-value is below alpha; a p-value that is not a number decides nothing."""
        if not self.p_value < self.alpha:
            return ComparisonResult.UNDECIDED
        return ComparisonResult.BETTER if self.difference > 0 else ComparisonResult.WORSE

    @property
    def counts(self) -> str:
        """What the difference rests on: the images won and lost where the metric counts images, else its interval.

        >>> Comparison(reference=.8, reference_interval=(.7, .9), difference=.02, difference_interval=(0, .04),
        ...            p_value=.05, alpha=.05, n10=3, n01=1).counts
        '3 images won, 1 lost'
        """
        if self.n10 is None or self.n01 is None:
            low, high = self.difference_interval
            return f"difference in {self.metric} {self.difference:+.4f} ({low:+.4f} to {high:+.4f})"
        return f"{self.n10} images won, {self.n01} lost"


class ClassScores(Facts):
    """One class: None where the score is undefined (never predicted, or without images)."""

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


class EvaluationReport(Facts):
    """What a model is worth on one split; `confusion` has a row a true class, a column a predicted one.

    `comparison` is with the first teacher, `control` with a model trained as long on human labels alone, unless that
    one's training diverged: `control_diverged` says how.
    """

    images: int
    accuracy: float
    interval: Interval
    macro_f1: float
    calibration_error: float
    log_loss: float
    brier_score: float
    per_class: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    alpha: float
    comparison: Comparison | None = None
    control: Comparison | None = None
    control_diverged: str | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in label order."""
        return tuple(scores.name for scores in self.per_class)

    def metric(self, name: Metric) -> float:
        """The metric called `name` in gates and floors."""
        match name:
            case "accuracy":
                return self.accuracy
            case "macro_f1":
                return self.macro_f1
            case _:
                assert_never(name)


def evaluate(
    labels: npt.ArrayLike,
    probs: npt.ArrayLike,
    *,
    class_names: tuple[str, ...],
    reference_probs: npt.ArrayLike | None = None,
    control_probs: npt.ArrayLike | None = None,
    alpha: float = 0.05,
) -> EvaluationReport:
    """The report on `probs` (n, classes) against human `labels` (n,), compared with others' answers if given.

    The reference is the first teacher's for the same images: what the labels alone gave. The control's come from a
    model that spent as many image-steps on the labels alone. Raises
    PredictionError for probabilities or labels that are none.
    """
    table = checked_probs(probs, classes=len(class_names))
    truth = checked_labels(labels, images=len(table), classes=len(class_names))
    confusion = metrics.confusion_matrix(truth, table)
    compared, control = (
        None if other is None else compare(truth, table, other, alpha=alpha)
        for other in (reference_probs, control_probs)
    )
    return EvaluationReport(
        images=len(truth),
        accuracy=metrics.accuracy(truth, table),
        interval=wilson(int(np.trace(confusion)), len(truth), alpha=alpha),
        macro_f1=metrics.macro_f1(truth, table),
        calibration_error=metrics.expected_calibration_error(truth, table),
        log_loss=metrics.log_loss(truth, table),
        brier_score=metrics.brier_score(truth, table),
        per_class=_class_scores(confusion, class_names),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        alpha=alpha,
        comparison=compared,
        control=control,
    )


def compare(
    labels: npt.ArrayLike, probs: npt.ArrayLike, reference_probs: npt.ArrayLike, *, alpha: float = 0.05
) -> Comparison:
    """The paired comparison of `probs` with `reference_probs`, both (n, classes), on the same `labels` (n,)."""
    ours = checked_probs(probs)
    theirs = checked_probs(reference_probs, classes=ours.shape[1])
    truth = checked_labels(labels, images=len(ours), classes=ours.shape[1])
    checked_labels(labels, images=len(theirs), classes=ours.shape[1])
    right, reference_right = ours.argmax(axis=1) == truth, theirs.argmax(axis=1) == truth
    both, neither = int(np.sum(right & reference_right)), int(np.sum(~right & ~reference_right))
    n10, n01 = int(np.sum(right & ~reference_right)), int(np.sum(~right & reference_right))
    return Comparison(
        reference=(both + n01) / len(truth),
        reference_interval=wilson(both + n01, len(truth), alpha=alpha),
        difference=(n10 - n01) / len(truth),
        difference_interval=paired_difference(both=both, only_first=n10, only_second=n01, neither=neither, alpha=alpha),
        n10=n10,
        n01=n01,
        p_value=mcnemar(n10, n01),
        alpha=alpha,
    )


def _class_scores(confusion: metrics.Ints, class_names: tuple[str, ...]) -> tuple[ClassScores, ...]:
    scores = metrics.per_class(confusion)
    columns = zip(class_names, scores.support.tolist(), scores.precision, scores.recall, scores.f1, strict=True)
    return tuple(
        ClassScores(name=name, support=support, precision=_or_none(p), recall=_or_none(r), f1=_or_none(f1))
        for name, support, p, r, f1 in columns
    )


def _or_none(score: float) -> float | None:
    return None if math.isnan(score) else float(score)
