"""Detail: a model against a reference on the same images, as a whole, per class, and in how sure it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from selftrain.evaluate.evaluation import Comparison, Facts, compare
from selftrain.evaluate.probabilities import checked_labels, checked_probs
from selftrain.evaluate.statistics.intervals import Interval
from selftrain.evaluate.statistics.significance import holm, mcnemar

RESAMPLES = 1000
IMAGES_AT_ONCE = 2_000_000  # of all resamples that are held at a time
Doubles = npt.NDArray[np.float64]
Right = npt.NDArray[np.bool_]


class ClassComparison(Facts):
    """A model against a reference on the images of one class, of which it won and lost some.

    `p_value` is McNemar's, two-sided, adjusted for the number of classes (Holm). The recalls are 0-1.
    """

    name: str
    images: int
    recall: float
    reference: float
    won: int
    lost: int
    p_value: float

    @property
    def difference(self) -> float:
        """The model's recall minus the reference's."""
        return self.recall - self.reference

    def fell(self, alpha: float) -> bool:
        """Whether the model is worse on this class, at level `alpha` over all classes."""
        return self.lost > self.won and self.p_value < alpha


class CalibrationComparison(Facts):
    """How far the confidence of a model, and of a reference, is from the share of images on which it is right.

    `gap` is the mean confidence minus the accuracy: above 0 for a model that is too sure. `difference` is the size of
    the model's gap minus that of the reference's, with its interval from resampled images.
    """

    gap: float
    reference_gap: float
    difference: float
    difference_interval: Interval
    alpha: float
    resamples: int = Field(RESAMPLES, description="samples of the same images, drawn with replacement")


class EarlierComparison(Facts):
    """The accuracies of a model and a reference on those test images that an earlier version of the test set held."""

    images: int
    accuracy: float
    reference: float

    @property
    def text(self) -> str:
        """Both in words.

        >>> EarlierComparison(images=500, accuracy=0.82, reference=0.814).text
        'on the 500 test images that the version before held too: 82.0 % against 81.4 %'
        """
        both = f"{self.accuracy * 100:.1f} % against {self.reference * 100:.1f} %"
        return f"on the {self.images} test images that the version before held too: {both}"


class DetailedComparison(Facts):
    """A model against a reference on the same images: as a whole, per class in label order, and in calibration.

    Classes without an image are left out. `earlier` is the part that an earlier version of the test set held, if any.
    """

    overall: Comparison
    per_class: tuple[ClassComparison, ...]
    calibration: CalibrationComparison | None = None
    earlier: EarlierComparison | None = None


def compare_in_detail(
    labels: npt.ArrayLike,
    probs: npt.ArrayLike,
    reference_probs: npt.ArrayLike,
    *,
    class_names: tuple[str, ...],
    alpha: float = 0.05,
    earlier: Right | None = None,
) -> DetailedComparison:
    """`probs` against `reference_probs`, both calibrated and (n, classes), on the same `labels` (n,).

    `earlier` (n,) is True for the images that an earlier version of the test set held too.
    Raises PredictionError for invalid probabilities or labels.
    """
    overall = compare(labels, probs, reference_probs, alpha=alpha)
    table = checked_probs(probs, classes=len(class_names))
    reference = checked_probs(reference_probs, classes=len(class_names))
    truth = checked_labels(labels, images=len(table), classes=len(class_names))
    right, reference_right = table.argmax(axis=1) == truth, reference.argmax(axis=1) == truth
    return DetailedComparison(
        overall=overall,
        per_class=compare_classes(truth, right, reference_right, class_names),
        calibration=_calibration(
            table.max(axis=1).astype(np.float64) - right,
            reference.max(axis=1).astype(np.float64) - reference_right,
            alpha=alpha,
        ),
        earlier=_earlier(right, reference_right, earlier),
    )


def _earlier(right: Right, reference_right: Right, held: Right | None) -> EarlierComparison | None:
    """Both accuracies on the images `held` (n,); None without such images."""
    if held is None or not held.any():
        return None
    return EarlierComparison(
        images=int(held.sum()), accuracy=float(right[held].mean()), reference=float(reference_right[held].mean())
    )


def compare_classes(
    truth: npt.NDArray[np.int64], right: Right, reference_right: Right, class_names: tuple[str, ...]
) -> tuple[ClassComparison, ...]:
    """A model against a reference per class of `truth` (n,), from the images (n,) on which they are right."""
    there = [index for index in range(len(class_names)) if (truth == index).any()]
    masks = [truth == index for index in there]
    won = [int(np.sum(right[mask] & ~reference_right[mask])) for mask in masks]
    lost = [int(np.sum(~right[mask] & reference_right[mask])) for mask in masks]
    adjusted = holm([mcnemar(w, n) for w, n in zip(won, lost, strict=True)])
    return tuple(
        ClassComparison(
            name=class_names[index],
            images=int(mask.sum()),
            recall=float(right[mask].mean()),
            reference=float(reference_right[mask].mean()),
            won=w,
            lost=n,
            p_value=p,
        )
        for index, mask, w, n, p in zip(there, masks, won, lost, adjusted, strict=True)
    )


def _calibration(gaps: Doubles, reference_gaps: Doubles, *, alpha: float, seed: int = 0) -> CalibrationComparison:
    """`gaps` (n,) and `reference_gaps` (n,): per image, the confidence minus 1 where it is right, else minus 0.

    A percentile bootstrap of paired images. Means have no bias from bins: with the binned calibration error, a model
    whose confidences are spread wider looks worse than one that is calibrated as well.
    """
    rng = np.random.default_rng(seed)
    both = np.stack([gaps, reference_gaps], axis=1)
    sizes: list[Doubles] = []
    at_once = max(1, IMAGES_AT_ONCE // len(both))
    for start in range(0, RESAMPLES, at_once):
        drawn = rng.integers(0, len(both), (min(at_once, RESAMPLES - start), len(both)))
        sizes.append(np.abs(both[drawn].mean(axis=1)))
    differences = np.concatenate([each[:, 0] - each[:, 1] for each in sizes])
    low, high = np.quantile(differences, [alpha / 2, 1 - alpha / 2])
    gap, reference_gap = (float(mean) for mean in both.mean(axis=0))
    return CalibrationComparison(
        gap=gap,
        reference_gap=reference_gap,
        difference=abs(gap) - abs(reference_gap),
        difference_interval=Interval(float(low), float(high)),
        alpha=alpha,
    )
