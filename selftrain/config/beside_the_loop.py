"""Recipes of models beside the loop: a backbone pretrained without labels, and a distilled model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from selftrain.config.recipes import Augmentation, Precision
from selftrain.config.section import Section, Share
from selftrain.errors import ConfigError
from selftrain.ladder import preset_of

Objective = Literal["simclr", "barlow_twins"]


class Pretraining(Section):
    """How a backbone learns from images without labels, before any teacher; the schedule counts optimizer steps.

    The objectives are SimCLR (arXiv:2002.05709) and Barlow Twins (arXiv:2103.03230).
    """

    backbone: str = Field("efficientnet_b0_050", description="ladder name or keras.applications class")
    image_size: int = Field(32, ge=1, description="pixels per side")
    objective: Objective = "simclr"
    steps: int = Field(2000, ge=1)
    batch_size: int = Field(128, ge=2, description="images; each is seen in two views")
    learning_rate: float = Field(1e-3, gt=0)
    warmup: Share = Field(0.1, description="share of the steps with a rising rate")
    weight_decay: float = Field(1e-4, ge=0)
    projector: int = Field(512, ge=2, description="width of the projector, which is thrown away afterwards")
    off_diagonal: float = Field(0.005, gt=0, description="Barlow Twins' weight of the redundancy term")
    temperature: float = Field(0.5, gt=0, description="SimCLR's temperature")
    augmentation: Augmentation = "natural"
    strength: Literal["weak", "strong"] = "strong"
    crop_area: float = Field(
        0.2,
        gt=0,
        le=1,
        description="natural: smallest share of a photo's area that a view shows, enlarged; 1: all of it",
    )
    precision: Precision = Field("float32", description="of the steps, as in a recipe")
    look_every: int = Field(200, ge=1, description="steps between evaluations of the features")
    reduce_strides: bool = Field(True, description="as in a recipe")
    checkpoint_s: float = Field(30.0, gt=0, description="seconds between saves; changes no result")

    @model_validator(mode="after")
    def _backbone_is_trained(self) -> Self:
        if preset_of(self.backbone) is not None:
            raise ConfigError(f"pretraining.backbone is {self.backbone!r}, which stays frozen; name another backbone")
        return self


class Distillation(Section):
    """How a model learns a saved model's answers (Hinton et al. 2015, arXiv:1503.02531)."""

    backbone: str = Field("efficientnet_b0_050", description="ladder name or keras.applications class")
    weights: str | None = Field(None, description="as in a recipe")
    temperature: float = Field(
        3.0, gt=0, allow_inf_nan=False, description="divides both models' logits; 1: as they are"
    )
    label_weight: Share = Field(0.1, description="the label's part in the loss of an image that has one")
    steps: int = Field(2000, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    augmentation: Augmentation = "natural"
    validate_every: int = Field(200, ge=1, description="steps between evaluations on validation")
    freeze_steps: int = Field(0, ge=0, description="as in a recipe")
    precision: Precision = Field("float32", description="of the steps, as in a recipe")
    checkpoint_s: float = Field(30.0, gt=0, description="seconds between saves; changes no result")
