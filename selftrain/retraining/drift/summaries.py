"""Summaries: what a model makes of many images, as a few hundred numbers that can be kept and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from selftrain.errors import DriftError, PredictionError
from selftrain.evaluate.probabilities import checked_probs

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Moments = tuple[float, float, float]

WAVES = 256
"""Frequencies at which features are compared. Their error falls with the root of this number."""
BINS = 100
"""Bins of a confidence between 0 and 1."""
_MEASURED = np.arange(2 * WAVES).reshape(2, 2, -1)[:, 0].ravel()  # half of the cosines and of the sines: their moments
_ROWS = 1024  # that are turned into waves at once
_DECIMALS = 7  # that are kept of a mean


class Space(BaseModel):
    """How one model's features become numbers: summaries can be compared within one space only.

    - `model`: the identity of the model.
    - `width`, `classes`: the columns of its features and of its probabilities.
    - `spread`: mean squared distance of the reference images' features from their mean.
    - `centres`: a digest of the reference's centres, "" before there are some.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    width: int = Field(ge=1)
    classes: int = Field(ge=2)
    spread: float = Field(gt=0)
    centres: str = ""
    seed: int = 0


class Summary(BaseModel):
    """What a model makes of `images` images, of one window or of the reference.

    - `waves` (2 x WAVES,): mean cosine and sine of the features at each frequency, from the predicted class's centre.
    - `moments`: the traces of C, C^2 and C^3, where C is the covariance of one image's waves. Half of the waves are
      measured: their traces are a little larger, which errs towards calling a difference chance.
    - `confidences` (BINS,): images per bin of confidence.
    - `classes` (classes,): images per predicted class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: Space
    images: int = Field(ge=2)
    waves: tuple[float, ...] = Field(min_length=2 * WAVES, max_length=2 * WAVES)
    moments: Moments
    confidences: tuple[int, ...] = Field(min_length=BINS, max_length=BINS)
    classes: tuple[int, ...]

    @model_validator(mode="after")
    def _counts_every_image(self) -> Self:
        sums = sum(self.confidences), sum(self.classes)
        if sums != (self.images, self.images) or len(self.classes) != self.space.classes:
            raise DriftError(
                f"a summary of {self.images} images counts {sums[0]} confidences and {sums[1]} classes; "
                f"it is damaged, describe the images again"
            )
        return self


class Reference(BaseModel):
    """The reference images: their summary, and the mean waves (classes, 2 x WAVES) of each predicted class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: Summary
    centres: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _has_the_centres_of_its_space(self) -> Self:
        if _digest(np.array(self.centres)) != self.space.centres:
            raise DriftError("the centres of a reference are not those of its space; describe its images again")
        return self

    @property
    def space(self) -> Space:
        """The space that new images are described in."""
        return self.summary.space


def space_of(features: Iterable[npt.ArrayLike], *, model: str, classes: int, seed: int = 0) -> Space:
    """The space of `model`, from batches of features (n, width) of reference images; the first of the two passes.

    Raises PredictionError if there are fewer than two images, if they do not fit together, or if all are the same.
    """
    images, mean, squares = 0, np.zeros(0), 0.0
    for batch in features:
        table = _checked_features(batch, width=len(mean) or None).astype(np.float64)
        if not len(table):
            continue
        centre, before = table.mean(axis=0), images
        images += len(table)
        shift = centre - mean if before else np.zeros_like(centre)
        # The parallel form of Chan, Golub and LeVeque (1983): no difference of large sums.
        squares += float(((table - centre) ** 2).sum() + (shift**2).sum() * before * len(table) / images)
        mean = mean + shift * len(table) / images if before else centre
    _refuse_few(images)
    if squares / images <= 0:
        raise PredictionError(f"the features of all {images} reference images are the same; train the model again")
    return Space(model=model, width=len(mean), classes=classes, spread=squares / images, seed=seed)


def refer(batches: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]], space: Space) -> Reference:
    """The reference of images, from batches of features (n, width) and probabilities (n, classes): the second pass.

    A class that the model predicts for none of them has the centre of all. Raises as `describe`.
    """
    tally = _Tally.empty(space)
    sums = np.zeros((space.classes, 2 * WAVES))
    for features, probs in _chunks(batches, space):
        waves = _waves(features, space)
        np.add.at(sums, probs.argmax(axis=1), waves)
        tally = tally.plus(waves, probs)
    _refuse_few(tally.images)
    counts = tally.classes[:, None]
    centres = np.where(counts > 0, sums / np.maximum(counts, 1), tally.total / tally.images).round(_DECIMALS)
    near = centres[:, _MEASURED]
    covariance = tally.products / tally.images - (near.T * (tally.classes / tally.images)) @ near
    own = space.model_copy(update={"centres": _digest(centres)})
    summary = tally.summary(own, np.zeros(2 * WAVES), covariance)
    return Reference(summary=summary, centres=tuple(tuple(row) for row in centres.tolist()))


def describe(batches: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]], reference: Reference) -> Summary:
    """The summary of new images, from batches of features (n, width) and probabilities (n, classes), in one pass.

    Memory does not grow with the number of images. The waves are random Fourier features of a Gaussian kernel (Rahimi
    and Recht 2007, "Random features for large-scale kernel machines"). The kernel's variance is the mean squared
    distance of two reference images. Raises PredictionError for features or probabilities that are not finite, do not
    fit the reference's space, or belong to fewer than two images.
    """
    centres = np.asarray(reference.centres, np.float32)
    tally = _Tally.empty(reference.space)
    for features, probs in _chunks(batches, reference.space):
        tally = tally.plus(_waves(features, reference.space) - centres[probs.argmax(axis=1)], probs)
    _refuse_few(tally.images)
    mean = tally.total / tally.images
    near = mean[_MEASURED]
    return tally.summary(reference.space, mean, tally.products / tally.images - np.outer(near, near))


def pooled(summaries: Sequence[Summary]) -> Summary:
    """The summary of the images of all `summaries`, of which there is at least one. Raises DriftError as `together`."""
    first = summaries[0]
    for each in summaries[1:]:
        together(first, each)
    images = np.array([each.images for each in summaries])
    averaged = np.average([each.moments for each in summaries], axis=0, weights=images).tolist()
    return Summary(
        space=first.space,
        images=int(images.sum()),
        waves=tuple(np.average([each.waves for each in summaries], axis=0, weights=images).tolist()),
        moments=(averaged[0], averaged[1], averaged[2]),
        confidences=tuple(np.sum([each.confidences for each in summaries], axis=0).tolist()),
        classes=tuple(np.sum([each.classes for each in summaries], axis=0).tolist()),
    )


def together(new: Summary, reference: Summary) -> None:
    """Raise DriftError unless both summaries are of one space."""
    if new.space != reference.space:
        raise DriftError(
            f"the new images were described by {new.space.model!r} (spread {new.space.spread:g}), the reference by "
            f"{reference.space.model!r} (spread {reference.space.spread:g}); describe both in one space"
        )


class _Tally(NamedTuple):
    """What is counted over batches."""

    images: int
    total: Doubles
    products: Doubles
    confidences: Counts
    classes: Counts

    @classmethod
    def empty(cls, space: Space) -> _Tally:
        measured = len(_MEASURED)
        counts = np.zeros(BINS, np.int64), np.zeros(space.classes, np.int64)
        return cls(0, np.zeros(2 * WAVES), np.zeros((measured, measured)), *counts)

    def plus(self, waves: Floats, probs: Floats) -> _Tally:
        """With a batch of waves (n, 2 x WAVES) and probabilities (n, classes)."""
        near = waves[:, _MEASURED]
        return _Tally(
            self.images + len(waves),
            self.total + waves.sum(axis=0, dtype=np.float64),
            self.products + near.T @ near,
            self.confidences + _binned(probs.max(axis=1)),
            self.classes + np.bincount(probs.argmax(axis=1), minlength=len(self.classes)),
        )

    def summary(self, space: Space, mean: Doubles, covariance: Doubles) -> Summary:
        """Of all images, with the mean (2 x WAVES,) of their waves and the covariance of the measured ones."""
        return Summary(
            space=space,
            images=self.images,
            waves=tuple(mean.round(_DECIMALS).tolist()),
            moments=_moments(covariance),
            confidences=tuple(self.confidences.tolist()),
            classes=tuple(self.classes.tolist()),
        )


def _chunks(batches: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]], space: Space) -> Iterator[tuple[Floats, Floats]]:
    """The batches, checked, in pieces of at most `_ROWS` images."""
    for features, probs in batches:
        table = _checked_features(features, width=space.width)
        answers = checked_probs(probs, classes=space.classes)
        if len(table) != len(answers):
            raise PredictionError(f"features of {len(table)} images, probabilities of {len(answers)}; give both of all")
        for start in range(0, len(table), _ROWS):
            yield table[start : start + _ROWS], answers[start : start + _ROWS]


def _checked_features(features: npt.ArrayLike, *, width: int | None) -> Floats:
    table = np.asarray(features, np.float32)
    if table.ndim != 2 or table.shape[1] == 0 or (width is not None and table.shape[1] != width):
        raise PredictionError(f"features have shape {table.shape}; allowed is (images, {width or 'width'})")
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if bad.size:
        shown = ", ".join(map(str, bad[:5]))
        raise PredictionError(f"the features of {bad.size} images (rows {shown}) are not finite; train the model again")
    return table


def _refuse_few(images: int) -> None:
    if images < 2:
        raise PredictionError(f"{images} images cannot be summarised; give at least two")


def _waves(features: Floats, space: Space) -> Floats:
    """Cosine and sine (n, 2 x WAVES) of `features` (n, width); each row's squared length is 1."""
    phases = features @ _frequencies(space)
    waves: Floats = np.concatenate([np.cos(phases), np.sin(phases)], axis=1)
    waves /= WAVES**0.5
    return waves


@lru_cache(maxsize=4)
def _frequencies(space: Space) -> Floats:
    """Gaussian directions (width, WAVES). RandomState's stream is frozen, so that old summaries stay comparable."""
    drawn = np.random.RandomState(space.seed).standard_normal((space.width, WAVES))
    frequencies: Floats = (drawn / (2 * space.spread) ** 0.5).astype(np.float32)
    return frequencies


def _digest(centres: Doubles) -> str:
    return hashlib.sha256(centres.astype(np.float64).tobytes()).hexdigest()[:16]


def _binned(confidences: Floats) -> Counts:
    bins = np.minimum((confidences * BINS).astype(np.int64), BINS - 1)
    counts: Counts = np.bincount(bins, minlength=BINS)
    return counts


def _moments(covariance: Doubles) -> Moments:
    """Of the covariance of half of the waves, as that of all of them has it."""
    whole = covariance * (2 * WAVES / len(covariance))
    square = whole @ whole
    return float(np.trace(whole)), float(np.trace(square)), float((square * whole).sum())
