"""The result of `autolabel`: counts, calibration, acceptance per class and warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from selftrain.autolabeling.user_model import OutputKind
from selftrain.data.inputs.labels import LabelForm
from selftrain.evaluate.coverage import CoverageCurve, MeasuredPrecision

FORMAT_VERSION: Literal[1] = 1


class Facts(BaseModel):
    """A frozen value that is written as JSON and read back."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Calibration(Facts):
    """The model's figures on `images` held-out images, before and after calibration by `temperature`.

    Errors are expected calibration errors. The figures after calibration are cross-fitted: each image is judged with a
    temperature that was fitted on other images.
    """

    images: int
    accuracy: float
    temperature: float
    error_before: float
    error_after: float
    log_loss_before: float
    log_loss_after: float


class ClassCounts(Facts):
    """One class: how many human labels to train on, predictions and accepted labels it has, and its cutoff (0-1)."""

    labeled: int
    predicted: int
    accepted: int
    cutoff: float


class Counts(Facts):
    """How many images there were.

    `training` and `held_out` images have a human label. The model labelled the `unlabeled` ones, and `accepted` of
    those labels were accepted. The other images were not used. `copies` are further copies of an image, `conflicting`
    are labelled images whose copies have different labels, and `unreadable` are files that cannot be read.
    """

    training: int
    held_out: int
    unlabeled: int
    accepted: int
    copies: int
    conflicting: int
    unreadable: int


class Analysis(Facts):
    """What `selftrain.autolabel` returns: counts, calibration, acceptance and warnings.

    `held_out_by` says on which images the model was judged: a share of the labelled images ("hash"), or separate
    images ("validation"). `threshold` is the threshold's rule in words. `measured` is the precision of the labels that
    it accepts, measured on the held-out images. `coverage` holds the precision at every other confidence. `image_range`
    holds the lowest and the highest value of the labelled images. `bits` is how many of 16 bits grey files fill.
    `pseudo_labels` is the digest of the table of
    pseudo-labels in the same folder.
    """

    format_version: Literal[1] = FORMAT_VERSION
    selftrain: str
    class_names: tuple[str, ...]
    outputs: OutputKind
    labels: LabelForm
    image_shape: tuple[int, ...]
    image_dtype: str
    image_range: tuple[float, float]
    files: bool = Field(description="the images are the user's files, decoded to image_shape")
    counts: Counts
    held_out_by: Literal["hash", "validation"]
    calibration: Calibration
    threshold: str
    measured: MeasuredPrecision | None
    coverage: CoverageCurve | None
    targets: Literal["soft", "hard"]
    round: int
    classes: Mapping[str, ClassCounts]
    pseudo_labels: str
    warnings: tuple[str, ...] = ()
    bits: int | None = None
