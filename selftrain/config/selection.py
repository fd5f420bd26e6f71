"""Which pseudo-labels are accepted, and what they weigh."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selftrain.config.section import Section, Share


class Fixed(Section):
    """Accept above one confidence; None accepts everything."""

    kind: Literal["fixed"] = "fixed"
    value: Share | None = 0.9


class PerClass(Section):
    """Accept above a confidence of the predicted class's own."""

    kind: Literal["per_class"] = "per_class"
    values: dict[str, Share]
    default: Share = 0.9


class Quantile(Section):
    """Accept the most confident share of the pool; the share grows by round (curriculum labelling)."""

    kind: Literal["quantile"] = "quantile"
    start: Share = 0.2
    step: Share = 0.2


class TargetPrecision(Section):
    """Accept above the lowest confidence whose precision on held-out human labels is surely high enough."""

    kind: Literal["target_precision"] = "target_precision"
    target: float = Field(0.9, gt=0, lt=1, description="share of the accepted labels that must be right")
    alpha: float = Field(0.05, gt=0, le=0.5, description="how often the target may be missed all the same")
    per_class: bool = Field(True, description="each class its own confidence where it has enough held-out predictions")


class Adaptive(Section):
    """Accept above confidences a class that follow from what the teacher is sure of (FreeMatch, over the pool)."""

    kind: Literal["adaptive"] = "adaptive"
    momentum: float = Field(0.999, ge=0, lt=1, description="of the averages over batches")
    batch_size: int = Field(64, ge=1, description="images in such a batch")
    steps: int = Field(10_000, ge=1, description="fewest batches; a smaller pool is passed over again")


Threshold = Annotated[Fixed | PerClass | Quantile | TargetPrecision | Adaptive, Field(discriminator="kind")]


class PseudoLabel(Section):
    """How the teacher's predictions become pseudo-labels."""

    threshold: Threshold = Fixed()
    targets: Literal["soft", "hard"] = "soft"
    max_per_class: int | None = Field(None, ge=1, description="quota: the most confident this many of a class")
    duplicate_up_to: int = Field(1, ge=1, description="rare classes: copies (as weight) an image may count for")
    align: Literal["none", "labeled_prior"] = Field(
        "none", description="labeled_prior: move the classes' shares to those of the labels; only if these are trusted"
    )
    weight: Literal["one", "precision", "softmatch"] = Field(
        "one", description="of an accepted image: 1, how often its confidence is right, or SoftMatch's Gaussian"
    )
    flips: bool = Field(False, description="average the prediction over a horizontal flip")
    batch_size: int = Field(256, ge=1)
