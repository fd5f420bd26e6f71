"""Trial: what a version did in a fresh serving process, and what of it speaks against serving it."""

from __future__ import annotations

import math

from pydantic import Field

from selftrain.config import ServingLimits
from selftrain.evaluate.evaluation import Facts

TOLERANCE = 1e-4
"""How far a served probability may be from evaluation's: the two batch images differently, and sums are rounded."""


class Trial(Facts):
    """What a version answered in a process of its own. `failure` says why it answered nothing."""

    failure: str | None = None
    images: int = Field(0, description="golden images, whose answers evaluation knows")
    largest_difference: float = Field(math.nan, description="of a probability from evaluation's, over all of them")
    broken_answered: tuple[str, ...] = Field((), description="broken images that did not have an error in their row")
    batch: int = Field(0, description="images in the full batch")
    batch_answered: int = Field(0, description="rows that it had a label for")
    latency_ms: float = Field(math.nan, description="95 % of the requests of one image took at most this long")
    batch_ms: float = math.nan
    memory_mb: float = Field(math.nan, description="peak memory of the process, libraries included")
    seconds: float = Field(math.nan, description="wall time of the trial, its start included")

    @property
    def text(self) -> str:
        """What a passed trial showed, in words that are the same each time."""
        return f"a fresh process served {self.images} images as evaluated"


def objections(trial: Trial, limits: ServingLimits) -> list[str]:
    """What speaks against serving the version of `trial`; what was not measured does."""
    if trial.failure is not None:
        return [f"it does not serve: {trial.failure}"]
    found = []
    if trial.images == 0 or not trial.largest_difference <= TOLERANCE:
        found.append(
            f"its answers to {trial.images} golden images differ from evaluation's by {trial.largest_difference:.2g}, "
            f"allowed is {TOLERANCE:g}"
        )
    if trial.broken_answered:
        found.append(f"it has no error for broken images ({', '.join(trial.broken_answered)})")
    if trial.batch == 0 or trial.batch_answered != trial.batch:
        found.append(f"it answered {trial.batch_answered} of the {trial.batch} images of a full batch")
    if limits.latency_ms is not None and not trial.latency_ms <= limits.latency_ms:
        found.append(f"an image takes {trial.latency_ms:.1f} ms, registry.limits.latency_ms is {limits.latency_ms:g}")
    if limits.memory_mb is not None and not trial.memory_mb <= limits.memory_mb:
        found.append(f"it takes {trial.memory_mb:.0f} MB, registry.limits.memory_mb is {limits.memory_mb:g}")
    return found
