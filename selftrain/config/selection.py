"""Settings of the pseudo-labels: which are accepted, and their weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selftrain.config.section import Section, Share


class Fixed(Section):
    """Accept above one confidence; None accepts everything."""

    kind: Literal["fixed"] = "fixed"
    value: Share | None = 0.9


class PerClass(Section):
    """Accept above a confidence that is set for each predicted class."""

    kind: Literal["per_class"] = "per_class"
    values: dict[str, Share]
    default: Share = 0.9


class Quantile(Section):
    """Accept the most confident share of the pool; the share grows by round (curriculum labelling)."""

    kind: Literal["quantile"] = "quantile"
    start: Share = 0.2
    step: Share = 0.2


class TargetPrecision(Section):
    """Accept above the lowest confidence at which a lower bound of precision on held-out labels meets the target."""

    kind: Literal["target_precision"] = "target_precision"
    target: float = Field(0.9, gt=0, lt=1, description="share of the accepted labels that must be correct")
    alpha: float = Field(0.05, gt=0, le=0.5, description="probability with which the target may still be missed")
    per_class: bool = Field(True, description="a threshold per class that has enough held-out predictions")


class Adaptive(Section):
    """Accept above a confidence per class, which follows from the teacher's confidences on the pool (FreeMatch)."""

    kind: Literal["adaptive"] = "adaptive"
    momentum: float = Field(0.999, ge=0, lt=1, description="of the averages over batches")
    batch_size: int = Field(64, ge=1, description="images in such a batch")
    steps: int = Field(10_000, ge=1, description="fewest batches; a smaller pool is read again")


Threshold = Annotated[Fixed | PerClass | Quantile | TargetPrecision | Adaptive, Field(discriminator="kind")]


class PseudoLabel(Section):
    """How the teacher's predictions become pseudo-labels."""

    labeler: Literal["teacher", "propagate"] = Field(
        "teacher",
        description="propagate: also spread labels and the teacher's answers over a graph of similar images",
    )
    threshold: Threshold = Fixed()
    targets: Literal["soft", "hard"] = "soft"
    max_per_class: int | None = Field(None, ge=1, description="quota: this many of the most confident per class")
    duplicate_up_to: int = Field(1, ge=1, description="rare classes: how many times one image may count")
    align: Literal["none", "labeled_prior"] = Field(
        "none", description="labeled_prior: move the class shares to those of the labels, if you trust these"
    )
    weight: Literal["one", "precision", "softmatch"] = Field(
        "one", description="of an accepted image: 1, the precision at its confidence, or SoftMatch's Gaussian"
    )
    flips: bool = Field(False, description="average the prediction over a horizontal flip")
    batch_size: int = Field(256, ge=1)
