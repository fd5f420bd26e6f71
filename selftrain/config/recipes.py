"""Recipes: how the models of the loop are trained."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from selftrain.config.detection import DetectionMethod
from selftrain.config.section import Section, Share
from selftrain.errors import BackboneError, ConfigError
from selftrain.ladder import next_rung, preset_of, resolve

Augmentation = Literal["none", "digits", "natural"]
Method = Literal["noisy_student", "fixmatch", "freematch", "softmatch"]
Precision = Literal["float32", "mixed_bfloat16"]
Head = Literal["trained", "fitted"]


def learns_in_training(method: Method | DetectionMethod | None) -> bool:
    """Whether `method` labels each batch again with the model in training; None is a model that is not a student.

    >>> learns_in_training("fixmatch"), learns_in_training("noisy_student"), learns_in_training(None)
    (True, False, False)
    """
    return method not in (None, "noisy_student")


_OF_STEPS = (
    *("batch_size", "learning_rate", "warmup", "weight_decay", "label_smoothing", "ema"),
    *("strength", "mixup", "cutmix", "validate_every", "precision"),
)
"""Settings of the training steps, without effect where a head is only fitted."""


class Recipe(Section):
    """How one model is trained; schedules count optimizer steps, not epochs."""

    backbone: str | None = Field(
        None, description="ladder name, keras.applications class or keras_hub:PRESET; None: the next rung"
    )
    weights: str | None = Field(None, description="None: from scratch; 'imagenet'; or a local weights file")
    head: Head = Field(
        "trained",
        description="fitted: the last layer by logistic regression on the features of the pretrained backbone, then "
        "`steps` on the whole network; 0 steps leave the backbone as it is",
    )
    steps: int = Field(480, ge=0, description="0 with a fitted head alone")
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    warmup: Share = Field(0.1, description="share of the steps with a rising rate")
    weight_decay: float = Field(1e-4, ge=0)
    label_smoothing: Share | None = Field(None, description="None: 0.1, or 0 for a method that labels in training")
    dropout: Share = 0.2
    ema: float | None = Field(0.99, ge=0, lt=1, description="momentum of the averaged weights; None: no average")
    augmentation: Augmentation = "natural"
    strength: Literal["weak", "strong"] = "weak"
    randaugment_operations: int | None = Field(None, ge=0, description="per strong view; None: the preset's own")
    randaugment_magnitude: float | None = Field(
        None, ge=0, le=10, description="largest strength; None: the preset's own"
    )
    mixup: float = Field(0.0, ge=0, description="alpha of MixUp's shares; 0: off")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix's shares; 0: off. With both, each image draws one")
    class_weights: Literal["balanced"] | None = None
    freeze_steps: int = Field(0, ge=0, description="steps with the pretrained backbone frozen, then unfrozen")
    unfreeze_rate: float = Field(0.1, gt=0, le=1, description="factor on the rate once the backbone is unfrozen")
    validate_every: int = Field(120, ge=1, description="steps between evaluations on validation")
    precision: Precision = Field(
        "float32", description="of the training steps; mixed_bfloat16 is slower on hardware without bfloat16"
    )
    reduce_strides: bool = Field(
        True, description="EfficientNet and MobileNet from scratch keep more detail of small images"
    )
    finish_steps: int | None = Field(
        None,
        ge=0,
        description="more steps, on human labels at a tenth of the rate; None: 5 % for noisy_student, else 0",
    )

    @model_validator(mode="after")
    def _backbone_is_known(self) -> Self:
        role = type(self).__name__.lower()
        try:
            rung = resolve(self.backbone) if self.backbone is not None else None
        except BackboneError as error:
            raise ConfigError(f"{role}.backbone: {error.message}") from error
        unpublished = rung is not None and rung.application is None and self.frozen_preset is None
        if rung is not None and unpublished and self.weights == "imagenet":
            raise ConfigError(
                f"{role}.weights is 'imagenet', but {rung.name} has no published weights; "
                f"set {role}.backbone to one that has, such as 'efficientnet_b0', or {role}.weights to null or a file"
            )
        return self

    @property
    def in_training(self) -> bool:
        """Whether the training steps use unlabelled images, as FixMatch's do; a teacher's never do."""
        return False

    @property
    def frozen_preset(self) -> str | None:
        """The preset of KerasHub that is the frozen backbone; None for any other backbone."""
        return None if self.backbone is None else preset_of(self.backbone)

    @property
    def fits_only(self) -> bool:
        """Whether the head is fitted and no step follows."""
        return self.head == "fitted" and self.steps == 0

    @model_validator(mode="after")
    def _a_head_can_be_fitted(self) -> Self:
        role = type(self).__name__.lower()
        if self.frozen_preset is not None:
            return self._of_a_preset(role)
        if self.head == "fitted" and self.weights is None:
            raise ConfigError(
                f"{role}.head is 'fitted' without {role}.weights: features of an untrained backbone say little; "
                "give weights, or set head to 'trained'"
            )
        if self.steps == 0 and (self.head != "fitted" or self.in_training):
            raise ConfigError(
                f"{role}.steps is 0, and nothing would be trained; give steps, or set {role}.head to 'fitted' and "
                "leave out methods that learn in steps"
            )
        if self.steps == 0 and self.finish_steps:
            raise ConfigError(f"{role}.finish_steps is {self.finish_steps} after no steps; leave it out")
        return self

    def _of_a_preset(self, role: str) -> Self:
        if self.weights is not None:
            raise ConfigError(
                f"{role}.weights is {self.weights!r}, but {self.backbone!r} brings its own weights; leave weights out"
            )
        if not self.fits_only or self.in_training:
            raise ConfigError(
                f"{role}.backbone is {self.backbone!r}, which stays frozen: set {role}.head to 'fitted' and "
                f"{role}.steps to 0, with student.method noisy_student"
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_idle(self) -> Self:
        for key, why in self._idle().items():
            value, default = getattr(self, key), type(self).model_fields[key].default
            if value != default:
                role = type(self).__name__.lower()
                raise ConfigError(
                    f"{role}.{key} is {value!r}, and would do nothing: {why}; leave it out, or change that"
                )
        return self

    def _idle(self) -> dict[str, str]:
        """Keys that the other settings leave without effect, and why. Only their defaults are accepted."""
        idle: dict[str, str] = {}
        if self.augmentation == "none" or not self._strong_views:
            why = "augmentation is none" if self.augmentation == "none" else "strength is weak"
            idle |= dict.fromkeys(("randaugment_operations", "randaugment_magnitude"), why)
        if self.frozen_preset is not None:
            idle |= dict.fromkeys(("reduce_strides",), "a preset keeps its own strides")
        if self.weights is None:
            idle["freeze_steps"] = "without weights there is nothing to keep frozen"
        if self.head == "fitted":
            idle["freeze_steps"] = "the head is fitted before the first step"
        if self.freeze_steps == 0:
            idle["unfreeze_rate"] = "freeze_steps is 0"
        if self.fits_only:
            idle |= dict.fromkeys(_OF_STEPS, "steps is 0")
        return idle

    @property
    def _strong_views(self) -> bool:
        return self.strength == "strong"


class Consistency(Section):
    """How fixmatch, freematch and softmatch use the unlabelled images of a batch."""

    mu: int = Field(3, ge=1, description="unlabelled images in a batch for each labelled one; 7 in the papers")
    weight: float = Field(1.0, ge=0, description="weight of the unlabelled images' loss; the labelled images' is 1")
    ramp_up: Share = Field(0.0, description="share of the steps in which that weight rises from 0")
    threshold: Share = Field(0.95, description="fixmatch: confidence from which an image counts")
    momentum: float = Field(
        0.99, ge=0, lt=1, description="freematch, softmatch: of the running averages over the model's predictions"
    )
    fairness: float = Field(0.01, ge=0, description="freematch: weight of the fairness term, apart from `weight`")
    n_sigma: float = Field(2.0, gt=0, description="softmatch: divides the Gaussian's width")


_OF_METHODS: dict[str, tuple[Method, ...]] = {
    "threshold": ("fixmatch",),
    "momentum": ("freematch", "softmatch"),
    "fairness": ("freematch",),
    "n_sigma": ("softmatch",),
}


class Student(Recipe):
    """Each round's student: a new model, or its teacher trained further.

    A new one is a rung above its teacher unless `backbone` is set. A method other than noisy_student trains on the
    labels and the whole pool at once, without pseudo-labels.
    """

    method: Method = "noisy_student"
    start: Literal["new", "teacher", "student"] = Field(
        "new",
        description="'teacher': from its teacher's weights, on the same backbone; 'student': only if that is a student",
    )
    consistency: Consistency = Consistency()
    steps: int = Field(860, ge=0, description="0 with a fitted head alone")
    strength: Literal["weak", "strong"] = "strong"
    dropout: Share = 0.3
    pseudo_weight: float = Field(1.0, ge=0, description="weight of a pseudo-labelled image in the loss; a human's is 1")
    min_human_share: Share = Field(0.25, description="floor for the share of human labels in a batch")

    @property
    def in_training(self) -> bool:
        """Whether the method trains on unlabelled images."""
        return learns_in_training(self.method)

    def backbone_after(self, teacher: str) -> str:
        """The backbone of a student whose teacher has the backbone `teacher`.

        It is `backbone` if that is set, the teacher's own if `start` is 'teacher', else the next rung. Raises
        BackboneError where the next rung of an unknown network is needed.
        """
        if self.backbone is not None:
            return self.backbone
        return teacher if self.start == "teacher" else next_rung(teacher)

    @property
    def _strong_views(self) -> bool:
        return self.strength == "strong" or self.in_training

    def _idle(self) -> dict[str, str]:
        idle = super()._idle()
        if not self.in_training:
            return idle | {"consistency": "method is noisy_student"}
        why = f"method is {self.method}, which reads no pseudo-labels"
        both = f"method is {self.method}, which takes weak and strong views"
        return idle | dict.fromkeys(("pseudo_weight", "min_human_share"), why) | {"strength": both}

    @model_validator(mode="after")
    def _settings_are_the_methods_own(self) -> Self:
        for key, methods in _OF_METHODS.items():
            value, default = getattr(self.consistency, key), Consistency.model_fields[key].default
            if self.method not in methods and value != default:
                raise ConfigError(
                    f"student.consistency.{key} is {value!r}, and would do nothing: method is {self.method}, and it "
                    f"belongs to {' and '.join(methods)}; leave it out, or choose one of these"
                )
        return self

    @model_validator(mode="after")
    def _fits_a_new_head(self) -> Self:
        if self.head == "fitted" and self.start != "new":
            raise ConfigError(
                f"student.head is 'fitted' and student.start {self.start!r}: a student that continues keeps its "
                "teacher's head; set start to 'new', or head to 'trained'"
            )
        return self

    @model_validator(mode="after")
    def _mixes_labels_only(self) -> Self:
        if self.in_training and (self.mixup or self.cutmix):
            raise ConfigError(
                f"student.method is {self.method!r} with mixup {self.mixup} and cutmix {self.cutmix}; "
                "only noisy_student mixes images: set both to 0"
            )
        return self
