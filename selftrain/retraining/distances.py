"""Distances: how far new images are from others, as effect sizes that do not grow with the number of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from selftrain.retraining.summaries import BINS, Moments, Summary, together

Measure = Literal["embeddings", "confidence", "class_mix"]
Against = Literal["training", "recent"]
Doubles = npt.NDArray[np.float64]

CHANCE = 1e-3
"""How often images of one kind lie farther apart than a distance's `chance`."""


class Distance(BaseModel):
    """One measure of how far a window is from the training images, or from the windows just before it.

    - `value`: the effect size. 0 is the same; its unit is told in `standardised` and `between_confidences`.
    - `chance`: the value that so few images exceed by chance once in a thousand times.
    - `p_value`: of the hypothesis that nothing has changed. It is shown and decides nothing.
    """

    model_config = ConfigDict(frozen=True)

    measure: Measure
    against: Against
    value: float
    chance: float
    p_value: float


def distances(new: Summary, reference: Summary, *, against: Against) -> tuple[Distance, ...]:
    """The distances of `new` from `reference`: of embeddings, of confidences and of the predicted class mix.

    Embeddings and class mix are `standardised` distances, confidences are `between_confidences`. Raises DriftError
    if the two summaries are of different spaces.
    """
    together(new, reference)
    return tuple(_distances(new, reference, against))


def _distances(new: Summary, reference: Summary, against: Against) -> Iterator[Distance]:
    noise = 1 / new.images + 1 / reference.images
    mix = shares(reference.classes)
    kernels: tuple[tuple[Measure, Doubles, Doubles, Moments], ...] = (
        ("embeddings", np.array(new.waves), np.array(reference.waves), reference.moments),
        ("class_mix", shares(new.classes), mix, _moments_of(mix)),
    )
    for measure, ours, theirs, moments in kernels:
        squared = standardised_square(ours, theirs, images=new.images, others=reference.images)
        yield Distance(
            measure=measure,
            against=against,
            value=max(squared, 0.0) ** 0.5,
            chance=_chance(moments, noise),
            p_value=_p_value(squared, moments, noise),
        )
    ours, theirs = shares(new.confidences), shares(reference.confidences)
    yield Distance(
        measure="confidence",
        against=against,
        value=between_confidences(ours, theirs),
        chance=_chance_of_confidences(theirs, noise),
        p_value=_kolmogorov(ours, theirs, noise),
    )


def standardised_square(new: Doubles, reference: Doubles, *, images: int, others: int) -> float:
    """The squared distance between two mean embeddings, in units of the reference's own spread.

    `new` and `reference` are means of vectors of length 1, over `images` and `others` of them. The numerator is the
    unbiased squared maximum mean discrepancy (Gretton et al. 2012, "A kernel two-sample test"), so that few images do
    not look far. The denominator is the mean squared distance of a reference image from the reference's mean. The
    root is Cohen's d for vectors: .1 is a tenth of the spread. Class shares are means of one-hot vectors.

    >>> round(standardised_square(np.array([.8, .2]), np.array([.5, .5]), images=10**6, others=10**6), 3)
    0.36
    """
    own, theirs = _unbiased_square(new, images), _unbiased_square(reference, others)
    gap = own + theirs - 2 * float(new @ reference)
    return gap / max(1.0 - theirs, 1.0 / others)


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


def _unbiased_square(mean: Doubles, images: int) -> float:
    """The squared length of a mean, without the part that its `images` vectors of length 1 add by chance."""
    return (images * float(mean @ mean) - 1) / (images - 1)


def _moments_of(mix: Doubles) -> Moments:
    """The traces of C, C^2 and C^3, where C is the covariance of one image's one-hot class, drawn from `mix`."""
    two, three, four = (float((mix**power).sum()) for power in (2, 3, 4))
    return 1 - two, two - 2 * three + two**2, three - 3 * four + 3 * two * three - two**3


class _ChiSquared(NamedTuple):
    """How a standardised square strays without a change, per unit of noise: `scale` * (chi-squared - `degrees`).

    The three moments of a weighted sum of squares are matched (Imhof 1961, "Computing the distribution of quadratic
    forms in normal variables", section 4).
    """

    degrees: float
    scale: float

    @classmethod
    def of(cls, moments: Moments) -> _ChiSquared:
        one, two, three = (max(each, 1e-12) for each in moments)
        degrees = max(two**3 / three**2, 1.0)
        return cls(degrees, (two / degrees) ** 0.5 / one)


def _p_value(squared: float, moments: Moments, noise: float) -> float:
    from scipy.special import chdtrc

    chi = _ChiSquared.of(moments)
    return float(chdtrc(chi.degrees, max(chi.degrees + squared / noise / chi.scale, 0.0)))


def _chance(moments: Moments, noise: float) -> float:
    """The distance whose `_p_value` is CHANCE."""
    from scipy.special import chdtri

    chi = _ChiSquared.of(moments)
    excess = max(float(chdtri(chi.degrees, CHANCE)) - chi.degrees, 0.0) * chi.scale
    return float((excess * noise) ** 0.5)


def _chance_of_confidences(reference: Doubles, noise: float) -> float:
    """The largest mean gap of two cumulated histograms if each point of it strays as far as a normal one may."""
    from scipy.special import ndtri

    below = np.clip(np.cumsum(reference), 0, 1)
    return float(-ndtri(CHANCE / 2) * np.sqrt(below * (1 - below) * noise).sum() / BINS)


def _kolmogorov(new: Doubles, reference: Doubles, noise: float) -> float:
    """Of Kolmogorov and Smirnov's test on the two histograms."""
    from scipy.special import kolmogorov

    return float(kolmogorov(np.abs(np.cumsum(new - reference)).max() / noise**0.5))
