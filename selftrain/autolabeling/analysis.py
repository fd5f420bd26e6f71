"""An analysis: what labelling the unlabelled images came to, and the folder that holds it."""

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
    """The model on `images` held out, before and after its `temperature`; errors are expected calibration errors.

    What is said of after is cross-fitted: no image is judged by a temperature that it was fitted on.
    """

    images: int
    accuracy: float
    temperature: float
    error_before: float
    error_after: float
    log_loss_before: float
    log_loss_after: float


class ClassCounts(Facts):
    """One class: images of it with a human label (to train on), predicted as it, accepted; the lowest confidence."""

    labeled: int
    predicted: int
    accepted: int
    cutoff: float


class Counts(Facts):
    """How many images there were: each is counted once.

    `training` and `held_out` have a human label, `unlabeled` were labelled by the model and `accepted` or not.
    `copies` are further copies of an image, `conflicting` labelled images whose copies have different labels,
    `unreadable` files that cannot be used: none of these is used.
    """

    training: int
    held_out: int
    unlabeled: int
    accepted: int
    copies: int
    conflicting: int
    unreadable: int


class Analysis(Facts):
    """What `selftrain.autolabel` found: counts, calibration, acceptance, and what to mind (`warnings`).

    `held_out_by` says whether the model was judged on a part of the labelled images ("hash") or on images of its own
    ("validation"). `threshold` is the rule in words, `measured` how right what it accepts is on the held-out images,
    `coverage` how right what every other confidence would accept. `image_range` are the lowest and the highest value of
    the labelled images. `pseudo_labels` is the digest of the table beside this file.
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
