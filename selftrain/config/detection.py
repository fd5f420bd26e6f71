"""Settings of object detection: the detector, its trainings, and how the images without labels teach it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from selftrain.config.section import Section, Share
from selftrain.errors import BackboneError, ConfigError
from selftrain.ladder import resolve

DetectionMethod = Literal["data_distillation", "unbiased_teacher", "noisy_student"]
SMALLEST_VIEW, VIEW_STEP = 64, 32  # pixels


class Detection(Section):
    """How a detector is trained on labels, and then on what it finds in the pool; only `task: detection` reads it.

    `burn_in_precision` and `burn_in_recall` are what a teacher must reach on validation before it may teach. It is
    trained again and again, as long as that still raises its average precision there by `burn_in_gain`.
    """

    backbone: str = Field("mobilenet_v2_035", description="EfficientNet, MobileNetV2 or ResNet, by name")
    weights: str | None = Field(None, description="None: from scratch; 'imagenet'; or a local weights file")
    view: int = Field(128, description="pixels a side of the views that are learned from; a multiple of 32")
    masks: bool = Field(True, description="outlines are learned too, where most of the training objects have one")
    turns: bool = Field(False, description="views are also turned by quarters: for cells and aerial photos")
    batch_size: int = Field(8, ge=2, description="views a step; half of them without labels once the pool teaches")
    learning_rate: float = Field(2e-3, gt=0)
    teacher_steps: int = Field(500, ge=1, description="the burn-in, on labels alone")
    student_steps: int = Field(1250, ge=1, description="of each round, on labels and on the pool")
    burn_in_precision: Share = Field(0.8, description="of the boxes above some score, on validation")
    burn_in_recall: Share = Field(0.3, description="of the objects, from that score on")
    burn_in_gain: Share = Field(0.01, description="of average precision on validation, for which it is repeated")
    more_burn_ins: int = Field(4, ge=0, description="how often the burn-in is repeated at most")
    method: DetectionMethod = Field(
        "data_distillation",
        description="the average of the weights labels whole images and their mirror images, every relabel_every "
        "steps; or unbiased_teacher: one weak view, every step; or noisy_student: the teacher labels the pool once, "
        "for a new network",
    )
    student_backbone: str | None = Field(None, description="of noisy_student; None: the teacher's network")
    student_weights: str | None = Field(None, description="of noisy_student's backbone, as `weights`")
    relabel_every: int = Field(500, ge=1, description="steps; of data_distillation")
    unsup_weight: float = Field(1.0, ge=0, description="of the loss on images without labels; that on labels counts 1")
    ramp_up: Share = Field(0.1, description="share of the steps over which that weight rises")
    ema: float = Field(0.99, ge=0, lt=1, description="momentum of the average that teaches; a half-life of 69 steps")
    update_every: int = Field(1, ge=1, description="steps between updates of the teacher")
    ignore_from: Share = Field(0.25, description="from this share of the threshold on, a box is not background either")
    box_regression: bool = Field(False, description="whether pseudo-boxes also teach where a box ends")
    fewest_boxes: float = Field(0.2, ge=0, description="alarm if a view has fewer pseudo-boxes than this times labels")
    most_boxes: float = Field(1.5, gt=0, description="alarm if a view has more pseudo-boxes than this times labels")

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        if self.view < SMALLEST_VIEW or self.view % VIEW_STEP:
            raise ConfigError(f"detection.view is {self.view}; give a multiple of {VIEW_STEP} from {SMALLEST_VIEW} on")
        if self.batch_size % 2:
            raise ConfigError(f"detection.batch_size is {self.batch_size}; give an even number: half has no labels")
        for key, backbone in (("backbone", self.backbone), ("student_backbone", self.student_backbone)):
            try:
                resolve(backbone or self.backbone)
            except BackboneError as error:
                raise ConfigError(f"detection.{key}: {error.message}") from error
        for key in ("student_backbone", "student_weights"):
            if getattr(self, key) is not None and self.method != "noisy_student":
                raise ConfigError(
                    f"detection.{key} is {getattr(self, key)!r}, and by {self.method} the student goes on from its "
                    "teacher's weights; set detection.method to 'noisy_student', or remove it"
                )
        return self

    @property
    def networks(self) -> tuple[str, ...]:
        """The backbones of the first teacher and of the students: one, unless a student is a new network."""
        return tuple(dict.fromkeys((self.backbone, self.student_backbone or self.backbone)))
