"""Coverage and precision: how much of a pool a cut-off accepts, and how precise it is on held-out human labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from selftrain.evaluate.probabilities import Floats, checked_labels, checked_probs
from selftrain.evaluate.statistics.exact import lower_bound, upper_bound

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
STEPS = 100
"""The curve has up to this many points, at the cut-offs that accept 1 %, 2 %, ... 100 % of the pool."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A teacher's `probs` (n, classes) for images it did not learn from, and their human `labels` (n,), n >= 1.

    The probabilities must be calibrated in the same way as the pool's. An image's own label must not take part in its
    calibration (see `cross_fitted_probs`). Raises PredictionError for invalid probabilities or labels.
    """

    probs: Floats
    labels: Ints

    def __post_init__(self) -> None:
        table = checked_probs(self.probs)
        object.__setattr__(self, "probs", table)
        object.__setattr__(self, "labels", checked_labels(self.labels, images=len(table), classes=table.shape[1]))

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def confidence(self) -> Floats:
        """The largest probability of each image, float32 (n,)."""
        highest: Floats = self.probs.max(axis=1)
        return highest

    @cached_property
    def predicted(self) -> Ints:
        """The most probable class of each image, (n,)."""
        classes: Ints = self.probs.argmax(axis=1)
        return classes

    @cached_property
    def right(self) -> Mask:
        """Whether the most probable class is the label, (n,)."""
        agree: Mask = self.predicted == self.labels
        return agree


class MeasuredPrecision(BaseModel):
    """The measured precision of a rule that accepts `accepted` of `pool` images.

    It also accepts `images` held-out images, of which the model labels `right` correctly. The interval of the precision
    is the Clopper-Pearson interval. Each end is one-sided at level 1 - alpha.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepted: int
    pool: int
    images: int
    right: int
    alpha: float = 0.05

    @property
    def coverage(self) -> float:
        """The accepted share of the pool; 0 for an empty pool."""
        return self.accepted / max(1, self.pool)

    @property
    def precision(self) -> float | None:
        """The share of right answers among the accepted held-out images; None if there are none."""
        return self.right / self.images if self.images else None

    @property
    def interval(self) -> tuple[float, float]:
        """The confidence interval of the precision; 0 to 1 if no held-out image is accepted."""
        low, high = (bound(self.right, self.images, alpha=self.alpha) for bound in (lower_bound, upper_bound))
        return float(low[0]), float(high[0])


class CoverageCurve(BaseModel):
    """How much of a pool each cut-off (k,) accepts, and how precise it is; the highest cut-off comes first.

    `accepted` counts the images, out of `pool`, with at least that confidence. `images` counts the held-out ones, out
    of `held_out`. The model labels `right` of those correctly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: int
    held_out: int
    cutoffs: tuple[float, ...]
    accepted: tuple[int, ...]
    images: tuple[int, ...]
    right: tuple[int, ...]
    alpha: float = 0.05

    def table(self) -> pa.Table:
        """One row per cut-off: cutoff, coverage, images, right, precision (NaN without images), low, high."""
        images, right = np.array(self.images, np.int64), np.array(self.right, np.int64)
        undefined = np.full(images.shape, np.nan)
        return pa.table(
            {
                "cutoff": np.array(self.cutoffs, np.float64),
                "coverage": np.array(self.accepted, np.float64) / max(1, self.pool),
                "images": images,
                "right": right,
                "precision": np.divide(right, images, out=undefined, where=images > 0),
                "low": lower_bound(right, images, alpha=self.alpha),
                "high": upper_bound(right, images, alpha=self.alpha),
            }
        )


def candidate_cutoffs(confidence: npt.ArrayLike, *, steps: int = STEPS) -> Floats:
    """The lowest confidence in the top 1/steps, 2/steps, ... of `confidence` (n,), descending and without duplicates.

    The cut-offs depend on the pool alone. Held-out images and labels do not change them.

    >>> candidate_cutoffs([0.5, 0.9, 0.9, 0.7], steps=4).tolist()
    [0.8999999761581421, 0.699999988079071, 0.5]
    """
    ranked = np.sort(np.asarray(confidence, np.float32))[::-1]
    if not ranked.size:
        return ranked
    last = np.ceil(np.arange(1, steps + 1) * ranked.size / steps).astype(np.int64) - 1
    return np.unique(ranked[last])[::-1]


def counts_above(confidence: Floats, cutoffs: Floats, *, of: Mask | None = None) -> Ints:
    """How many of `confidence` (n,) reach each of `cutoffs` (k,), int64 (k,); `of` (n,) masks those that count.

    >>> counts_above(np.float32([0.9, 0.5]), np.float32([0.9, 0.6, 0.5])).tolist()
    [1, 1, 2]
    """
    ranked = np.sort(confidence if of is None else confidence[of])
    below: Ints = np.searchsorted(ranked, cutoffs, side="left").astype(np.int64)
    return ranked.size - below


def coverage_curve(confidence: npt.ArrayLike, held_out: HeldOut, *, alpha: float = 0.05) -> CoverageCurve:
    """The curve over the shares 1 % to 100 % of a pool's `confidence` (n,), measured on `held_out`."""
    pool = np.asarray(confidence, np.float32)
    cutoffs = candidate_cutoffs(pool)
    return CoverageCurve(
        pool=pool.size,
        held_out=len(held_out),
        cutoffs=tuple(cutoffs.tolist()),
        accepted=tuple(counts_above(pool, cutoffs).tolist()),
        images=tuple(counts_above(held_out.confidence, cutoffs).tolist()),
        right=tuple(counts_above(held_out.confidence, cutoffs, of=held_out.right).tolist()),
        alpha=alpha,
    )
