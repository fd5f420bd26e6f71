"""Distances: how far new images are from others, as effect sizes that do not grow with the number of images."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from selftrain.retraining.drift.summaries import BINS, Moments, Summary, together

Measure = Literal["embeddings", "confidence", "class_mix"]
Against = Literal["training", "recent"]
Doubles = npt.NDArray[np.float64]

CHANCE = 1e-3
"""How often images of one kind lie farther apart than a distance's `chance`."""


class Distance(BaseModel):
    """One measure of how far a window is from the training images, or from the windows just before it.

    - `value`: the effect size. 0 is the same; its unit is told in `gap` and `between_confidences`.
    - `chance`: the value that so few images exceed by chance once in a thousand times.
    - `p_value`: of the hypothesis that nothing has changed. It is shown and decides nothing.
    """

    model_config = ConfigDict(frozen=True)

    measure: Measure
    against: Against
    value: float
    chance: float
    p_value: float


class Mean(NamedTuple):
    """The mean (k,) of `images` vectors, and the traces of C, C^2 and C^3 of their covariance C."""

    value: Doubles
    moments: Moments
    images: int


def distances(new: Summary, others: Summary, *, against: Against) -> tuple[Distance, ...]:
    """The distances of `new` from `others`: of embeddings, of the predicted class mix and of confidences.

    Embeddings are compared within predicted classes, so that a class mix of another kind is not counted twice. Raises
    DriftError if the two summaries are of different spaces.
    """
    together(new, others)
    ours, theirs = shares(new.confidences), shares(others.confidences)
    noise = 1 / new.images + 1 / others.images
    confidence = Distance(
        measure="confidence",
        against=against,
        value=between_confidences(ours, theirs),
        chance=_chance_of_confidences(theirs, noise),
        p_value=_kolmogorov(ours, theirs, noise),
    )
    embeddings = gap(_embeddings(new), _embeddings(others)).distance("embeddings", against)
    return embeddings, gap(_class_mix(new), _class_mix(others)).distance("class_mix", against), confidence


def gap(new: Mean, others: Mean) -> Gap:
    """The squared distance between two means, in units of the spread of `others`.

    Without what few images add by chance, it is the unbiased squared maximum mean discrepancy of the vectors' kernel
    (Gretton et al. 2012, "A kernel two-sample test"). The unit is the mean squared distance of one of `others` from
    their mean. So the root is Cohen's d for vectors: .1 is a tenth of the spread.

    >>> half, most = (Mean(np.array([p, 1 - p]), moments_of(np.array([p, 1 - p])), 10**6) for p in (.5, .8))
    >>> round(gap(most, half).squared, 3)
    0.36
    """
    one, two, three = (
        (new.moments[k] ** (1 / (k + 1)) / (new.images - 1) + others.moments[k] ** (1 / (k + 1)) / (others.images - 1))
        ** (k + 1)
        for k in range(3)
    )
    unit = max(others.moments[0], 1 / others.images) * others.images / (others.images - 1)
    squared = float(((new.value - others.value) ** 2).sum()) - one
    degrees = max(two**3 / three**2, 1.0) if three > 0 else 1.0
    return Gap(squared / unit, degrees, (two / degrees) ** 0.5 / unit)


class Gap(NamedTuple):
    """A squared distance. Without a change, it strays as `scale` * (chi-squared of `degrees` - `degrees`).

    This matches three moments of the weighted sum of squares that it is (Imhof 1961, "Computing the distribution of
    quadratic forms in normal variables"). The two covariances count as proportional.
    """

    squared: float
    degrees: float
    scale: float

    @property
    def chance(self) -> float:
        """The distance whose `p_value` is CHANCE."""
        from scipy.special import chdtri

        return float((max(float(chdtri(self.degrees, CHANCE)) - self.degrees, 0.0) * self.scale) ** 0.5)

    @property
    def p_value(self) -> float:
        """How often images of one kind are as far apart."""
        from scipy.special import chdtrc

        if self.scale <= 0:
            return 1.0 if self.squared <= 0 else 0.0
        return float(chdtrc(self.degrees, max(self.degrees + self.squared / self.scale, 0.0)))

    def distance(self, measure: Measure, against: Against) -> Distance:
        """The effect size with its name."""
        value = max(self.squared, 0.0) ** 0.5
        return Distance(measure=measure, against=against, value=value, chance=self.chance, p_value=self.p_value)


def _embeddings(summary: Summary) -> Mean:
    return Mean(np.array(summary.waves), summary.moments, summary.images)


def _class_mix(summary: Summary) -> Mean:
    mix = shares(summary.classes)
    return Mean(mix, moments_of(mix), summary.images)


def moments_of(mix: Doubles) -> Moments:
    """The traces of C, C^2 and C^3, where C is the covariance of one image's one-hot class, drawn from `mix`."""
    two, three, four = (float((mix**power).sum()) for power in (2, 3, 4))
    traces = 1 - two, two - 2 * three + two**2, three - 3 * four + 3 * two * three - two**3
    return max(traces[0], 0.0), max(traces[1], 0.0), max(traces[2], 0.0)


def between_confidences(new: Doubles, reference: Doubles) -> float:
    """Wasserstein's distance between two distributions of confidence, given as shares (BINS,), in points of 0-1.

    It is how much the confidence of an image changed on average, if as little as possible had moved (Ramdas et al.
    2017, "On Wasserstein two-sample testing").

    >>> sure, unsure = np.eye(100)[90], np.eye(100)[60]
    >>> round(between_confidences(sure, unsure), 3)
    0.3
    """
    return float(np.abs(np.cumsum(new - reference)).sum() / BINS)


def shares(counts: npt.ArrayLike) -> Doubles:
    """Counts (k,) as shares of their sum, which is above 0."""
    values: Doubles = np.asarray(counts, np.float64)
    return values / float(values.sum())


def _chance_of_confidences(reference: Doubles, noise: float) -> float:
    """The largest mean gap of two cumulated histograms if each point of it strays as far as a normal one may."""
    from scipy.special import ndtri

    below = np.clip(np.cumsum(reference), 0, 1)
    return float(-ndtri(CHANCE / 2) * np.sqrt(below * (1 - below) * noise).sum() / BINS)


def _kolmogorov(new: Doubles, reference: Doubles, noise: float) -> float:
    """Of Kolmogorov and Smirnov's test on the two histograms."""
    from scipy.special import kolmogorov

    return float(kolmogorov(np.abs(np.cumsum(new - reference)).max() / noise**0.5))
