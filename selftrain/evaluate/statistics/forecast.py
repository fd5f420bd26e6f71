"""The forecast: how much more accurate a classifier would be with more labels, by its learning curve so far."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from selftrain.files.writing import replace_text

Doubles = NDArray[np.float64]

MORE = (50, 100, 200, 500, 1_000)
"""For how many additional labels a gain is told."""
_FURTHEST = 4.0  # times the labels of the curve's last point; beyond, no law holds
_EXPONENTS = np.linspace(0.1, 1.5, 29)
_FLOORS = np.linspace(0.0, 1.0, 21)  # of the error that no number of labels removes, as a share of the last error
_RESAMPLES = 400
_FEWEST_SIZES = 3
_FEWEST_LABELS = 40
_WIDEST = 0.3  # of an interval; a wider one says nothing


class CurvePoint(BaseModel):
    """The accuracy (0-1) on held-out labels of a head that was fitted to `labels` of them, with its 95 % interval."""

    model_config = ConfigDict(frozen=True)

    labels: int
    accuracy: float
    low: float
    high: float


class Gain(BaseModel):
    """What `more` labels would add to the accuracy (0-1): the middle of the resamples, and 95 % of them.

    It leaves out that the law may be another one: on flowers and CIFAR-10, the interval held 39 of 48 gains.
    """

    model_config = ConfigDict(frozen=True)

    more: int
    middle: float
    low: float
    high: float


class ClassNeed(BaseModel):
    """A class, how many labels it has, and the share (0-1) of these that were recognised when they were held out."""

    model_config = ConfigDict(frozen=True)

    name: str
    labels: int
    recall: float


class LabelForecast(BaseModel):
    """A learning curve and what follows from it. `unknown` says why nothing follows; then `gains` is empty.

    `labels` is the number from which the gains count, and `now` the accuracy there by the law of the curve. `classes`
    are sorted by their recall, the lowest first.
    """

    model_config = ConfigDict(frozen=True)

    labels: int = Field(ge=0)
    points: tuple[CurvePoint, ...] = ()
    now: float | None = None
    gains: tuple[Gain, ...] = ()
    classes: tuple[ClassNeed, ...] = ()
    unknown: str | None = None

    def write(self, path: Path) -> None:
        """Write the forecast as JSON."""
        replace_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, text: str) -> LabelForecast:
        """The forecast in `text`, the content of such a file."""
        return cls.model_validate_json(text)


def forecast(
    sizes: tuple[int, ...],
    right: Doubles,
    *,
    labels: int,
    luck: float = 0.0,
    classes: tuple[ClassNeed, ...] = (),
    seed: int,
) -> LabelForecast:
    """What more labels would add, from a learning curve on held-out labels.

    `right` (sizes, repeats, n) tells for each of the `sizes`, for each repeat and each of n labelled images whether a
    head that was fitted to as many other labels named its class: 1 or 0. The error is taken to fall as a power of the
    number of labels towards a floor (Hestness et al., arXiv 1712.00409; Viering and Loog, arXiv 2103.10948). The law is
    fitted to each of 400 resamples of the images and repeats, and the gains are quantiles of these laws. Heads on m
    labels differ by chance, with a variance of `luck` / m, and this is added. No gain is told for more than four times
    the labels that the curve reaches.

    >>> shares = 1 - 2.0 * np.array([50, 100, 200]) ** -0.5
    >>> right = np.stack([(np.arange(400) < 400 * share).astype(float) for share in shares])[:, None]
    >>> [round(gain.middle, 2) for gain in forecast((50, 100, 200), right, labels=200, seed=0).gains]
    [0.01, 0.02, 0.04, 0.06]
    """
    points = tuple(_point(size, rows) for size, rows in zip(sizes, right, strict=True))
    found = LabelForecast(labels=labels, points=points, classes=tuple(sorted(classes, key=lambda each: each.recall)))
    reason = _hindrance(sizes, right.shape[-1], labels)
    if reason is not None:
        return found.model_copy(update={"unknown": reason})
    errors = 1.0 - _resampled(right, seed=seed)
    asked = [more for more in MORE if labels + more <= _FURTHEST * sizes[-1]]
    at = np.array([labels, *(labels + more for more in asked)], np.float64)
    expected = _fitted(np.array(sizes, np.float64), errors, at)
    by_chance = np.random.default_rng(seed).normal(size=(len(errors), 1)) * np.sqrt(luck * (1 / at[0] - 1 / at[1:]))
    quantiles = np.quantile(expected[:, :1] - expected[:, 1:] + by_chance, (0.025, 0.5, 0.975), axis=0)
    gains = tuple(
        Gain(more=more, low=float(low), middle=float(middle), high=float(high))
        for more, (low, middle, high) in zip(asked, quantiles.T, strict=True)
        if high - low <= _WIDEST
    )
    if not gains:
        return found.model_copy(update={"unknown": "the learning curve is too uncertain to be continued"})
    return found.model_copy(update={"gains": gains, "now": 1.0 - float(np.median(expected[:, 0]))})


def _hindrance(sizes: tuple[int, ...], images: int, labels: int) -> str | None:
    """Why nothing follows from a curve of `sizes` that was measured on `images`, for `labels`; None if something may.

    Each size of a curve is about half the next one, so twice as many images add one at least.
    """
    if images < _FEWEST_LABELS:
        return f"{images} human labels are too few for a learning curve; {_FEWEST_LABELS} are needed"
    if len(sizes) < _FEWEST_SIZES:
        enough = images * 2 ** (_FEWEST_SIZES - len(sizes))
        return (
            f"{images} human labels are too few for so many classes: a learning curve needs {_FEWEST_SIZES} sizes with "
            f"a label of each class, and there are {len(sizes)}; about {enough:,} labels are enough"
        )
    furthest = int(_FURTHEST * sizes[-1])
    if labels + MORE[0] > furthest:
        return (
            f"the learning curve was measured up to {sizes[-1]:,} human labels and is not continued beyond "
            f"{furthest:,}; there are {labels:,}, and with {MORE[0]} more it would be too far"
        )
    return None


def _point(size: int, right: Doubles) -> CurvePoint:
    """The mean of `right` (repeats, n), and the interval of that mean over images."""
    each = right.mean(axis=0)
    accuracy = float(each.mean())
    spread = 1.96 * float(each.std(ddof=1)) / np.sqrt(len(each)) if len(each) > 1 else 1.0
    low, high = max(0.0, accuracy - spread), min(1.0, accuracy + spread)
    return CurvePoint(labels=size, accuracy=accuracy, low=float(low), high=float(high))


def _resampled(right: Doubles, *, seed: int) -> Doubles:
    """The accuracy at each size, for resamples of images and of repeats: (resamples, sizes).

    An image is drawn for all sizes at once, because they were measured on the same ones. The repeats of each size are
    drawn on their own: each of them fitted a head to other labels.
    """
    rng = np.random.default_rng(seed)
    sizes, repeats, images = right.shape
    found = np.empty((_RESAMPLES, sizes))
    for at in range(_RESAMPLES):
        weight = rng.multinomial(images, np.full(images, 1 / images)) / images
        drawn = rng.multinomial(repeats, np.full(repeats, 1 / repeats), size=sizes) / repeats
        found[at] = ((right @ weight) * drawn).sum(axis=1)
    return found


def _fitted(sizes: Doubles, errors: Doubles, at: Doubles) -> Doubles:
    """The error at each of `at` (k,) by the best law for each row of `errors` (resamples, sizes): (resamples, k).

    A law is floor + factor * size ** -exponent. Exponents and floors are tried on a grid; the factor is fitted by least
    squares, and cannot be negative.
    """
    best = np.full(len(errors), np.inf)
    found = np.tile(errors[:, -1:], (1, len(at)))
    for share in _FLOORS:
        floor = share * errors[:, -1:]
        for exponent in _EXPONENTS:
            falling = sizes**-exponent
            factor = np.maximum(((errors - floor) * falling).sum(axis=1) / (falling**2).sum(), 0.0)[:, None]
            loss = ((floor + factor * falling - errors) ** 2).sum(axis=1)
            better = loss < best
            best[better] = loss[better]
            found[better] = (floor + factor * at**-exponent)[better]
    return found
