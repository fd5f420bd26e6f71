"""Evaluation: the numbers of reports and gates, from human labels and calibrated probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import assert_never

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from selftrain.config import Metric
from selftrain.errors import ConfigError
from selftrain.evaluate import metrics
from selftrain.evaluate.probabilities import checked_labels, checked_probs
from selftrain.evaluate.statistics.intervals import Interval, paired_difference, wilson
from selftrain.evaluate.statistics.significance import mcnemar
from selftrain.evaluate.wrong_answers import WrongAnswer


class Facts(BaseModel):
    """A frozen value that is written as JSON and read back."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ComparisonResult(StrEnum):
    """What a paired comparison shows at its level."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


class Comparison(Facts):
    """A model compared with a reference on the same images, by any `metric`.

    `difference` is the model's metric minus the reference's, with its paired interval at level 1 - alpha. `p_value`
    is two-sided; `test` names its test. For accuracy, only the model is right on `n10` images, and only the reference
    on `n01`. Other metrics have no such counts.
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
        """Better or worse if the p-value is below alpha, else undecided; NaN is undecided."""
        if not self.p_value < self.alpha:
            return ComparisonResult.UNDECIDED
        return ComparisonResult.BETTER if self.difference > 0 else ComparisonResult.WORSE

    @property
    def differs(self) -> bool:
        """Whether the two answered any image differently, as far as the metric shows; a model is equal to itself."""
        return self.difference != 0 or bool(self.n10) or bool(self.n01)

    @property
    def counts(self) -> str:
        """The images won and lost if the metric counts images; else the difference with its interval.

        >>> Comparison(reference=.8, reference_interval=(.7, .9), difference=.02, difference_interval=(0, .04),
        ...            p_value=.05, alpha=.05, n10=3, n01=1).counts
        '3 images won, 1 lost'
        """
        if self.n10 is None or self.n01 is None:
            low, high = self.difference_interval
            return f"difference in {self.metric} {self.difference:+.4f} ({low:+.4f} to {high:+.4f})"
        return f"{self.n10} images won, {self.n01} lost"


class ClassScores(Facts):
    """The scores of one class. A score is None if it is undefined: the class is never predicted, or has no images."""

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


class EarlierPart(Facts):
    """The scores on those test images that an earlier version of the test set held too, with the same labels.

    `comparison` is with the first teacher, as in the whole report.
    """

    images: int
    accuracy: float
    interval: Interval
    comparison: Comparison | None = None


class Report(Facts):
    """What every task reports of a model on `images`, beside its own numbers; intervals are at level 1 - `alpha`.

    `comparison` is with the first teacher. `control` is with a model trained for as long on human labels alone. If that
    training diverged, `control_diverged` says how. `baseline` is with logistic regression on frozen features, fitted to
    the human labels alone; if there is none, `baseline_failed` may say why.
    """

    images: int
    alpha: float
    comparison: Comparison | None = None
    control: Comparison | None = None
    control_diverged: str | None = None
    baseline: Comparison | None = None
    baseline_failed: str | None = None

    @property
    def on_labels(self) -> Comparison | None:
        """The comparison with the better of baseline and control, which know the human labels alone; None without both.

        The better one is the one that the model gained less on. Of two that are alike, it is the baseline.
        """
        found = [each for each in (self.baseline, self.control) if each is not None]
        return min(found, key=lambda each: each.difference, default=None)


class EvaluationReport(Report):
    """A classifier's scores on one split; `confusion` has a row per true class and a column per predicted class.

    `wrong` holds the most confident errors. `errors` has the class index that was answered for every wrong image, by
    its id; None in reports of earlier versions.
    """

    accuracy: float
    interval: Interval
    macro_f1: float
    calibration_error: float
    log_loss: float
    brier_score: float
    per_class: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    earlier: EarlierPart | None = None
    wrong: tuple[WrongAnswer, ...] = ()
    errors: dict[str, int] | None = None

    def answers(self, truth: Mapping[str, int]) -> dict[str, int]:
        """The class index that the model answered for each image of `truth`, by image id, as far as it is stored.

        `truth` has the label of every image, as a class index. Where all errors are stored, the other images were
        answered rightly. Else only the stored errors are known.
        """
        wrong = self.errors if self.errors is not None else {each.image_id: each.predicted for each in self.wrong}
        whole = len(wrong) == self.images - sum(row[index] for index, row in enumerate(self.confusion))
        return {name: wrong.get(name, label) for name, label in truth.items() if whole or name in wrong}

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
            case "map" | "ap50":
                raise ConfigError(f"{name} is a detector's metric; a classifier has accuracy and macro_f1")
            case _:
                assert_never(name)


def evaluate(
    labels: npt.ArrayLike,
    probs: npt.ArrayLike,
    *,
    class_names: tuple[str, ...],
    reference_probs: npt.ArrayLike | None = None,
    control_probs: npt.ArrayLike | None = None,
    baseline_probs: npt.ArrayLike | None = None,
    alpha: float = 0.05,
) -> EvaluationReport:
    """The report on a model's answers for the images of one split, compared with other models' answers if given.

    - `labels` (n,): human labels, as class indices.
    - `probs` (n, classes): the model's calibrated probabilities.
    - `reference_probs` (n, classes): those of the first teacher, which learnt from the labels alone.
    - `control_probs` (n, classes): those of a model trained for as many image-steps on the labels alone.
    - `baseline_probs` (n, classes): those of logistic regression on frozen features, fitted to the labels alone.

    Raises PredictionError for invalid probabilities or labels.
    """
    table = checked_probs(probs, classes=len(class_names))
    truth = checked_labels(labels, images=len(table), classes=len(class_names))
    confusion = metrics.confusion_matrix(truth, table)
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
        comparison=None if reference_probs is None else compare(truth, table, reference_probs, alpha=alpha),
        control=None if control_probs is None else compare(truth, table, control_probs, alpha=alpha),
        baseline=None if baseline_probs is None else compare(truth, table, baseline_probs, alpha=alpha),
    )


def evaluate_part(
    labels: npt.ArrayLike,
    probs: npt.ArrayLike,
    part: npt.NDArray[np.bool_],
    *,
    reference_probs: npt.ArrayLike,
    alpha: float = 0.05,
) -> EarlierPart | None:
    """The scores of `probs` (n, classes) on the images where `part` (n,) is true; None if there are none."""
    if not part.any():
        return None
    table, truth = checked_probs(probs)[part], np.asarray(labels)[part]
    right = int(np.sum(table.argmax(axis=1) == truth))
    return EarlierPart(
        images=len(truth),
        accuracy=right / len(truth),
        interval=wilson(right, len(truth), alpha=alpha),
        comparison=compare(truth, table, checked_probs(reference_probs)[part], alpha=alpha),
    )


def compare(
    labels: npt.ArrayLike, probs: npt.ArrayLike, reference_probs: npt.ArrayLike, *, alpha: float = 0.05
) -> Comparison:
    """The paired comparison of `probs` with `reference_probs`, both (n, classes), on the same `labels` (n,)."""
    table = checked_probs(probs)
    classes = table.shape[1]
    reference = checked_probs(reference_probs, classes=classes)
    truth = checked_labels(labels, images=len(table), classes=classes)
    checked_labels(labels, images=len(reference), classes=classes)
    return paired(table.argmax(axis=1) == truth, reference.argmax(axis=1) == truth, alpha=alpha)


def paired(right: npt.NDArray[np.bool_], reference_right: npt.NDArray[np.bool_], *, alpha: float = 0.05) -> Comparison:
    """The comparison of a model with a reference, of which each image (n,) says whether they are right on it.

    >>> found = paired(np.array([True, True, False]), np.array([True, False, False]))
    >>> round(found.difference, 3), found.counts
    (0.333, '1 images won, 0 lost')
    """
    images = len(right)
    both, neither = int(np.sum(right & reference_right)), int(np.sum(~right & ~reference_right))
    n10, n01 = int(np.sum(right & ~reference_right)), int(np.sum(~right & reference_right))
    return Comparison(
        reference=(both + n01) / images,
        reference_interval=wilson(both + n01, images, alpha=alpha),
        difference=(n10 - n01) / images,
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
