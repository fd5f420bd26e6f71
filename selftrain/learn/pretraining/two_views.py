"""Two views: the networks that compare two augmentations of each image, and how they are trained."""

from __future__ import annotations

from typing import Any, Literal, assert_never

import keras
from keras import ops
from pydantic import Field

from selftrain.config import Augmentation, Precision, Section, Share
from selftrain.learn.augmentation.policy import augmenter
from selftrain.learn.pretraining.view_losses import barlow_twins, nt_xent

Objective = Literal["simclr", "barlow_twins"]


class Pretraining(Section):
    """How a backbone learns from unlabelled images; the schedule counts optimizer steps, not epochs."""

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
        0.2, gt=0, le=1, description="natural: least share of a photo's area that a view shows, enlarged; 1: all of it"
    )
    precision: Precision = Field("float32", description="of the steps, as a recipe's")
    look_every: int = Field(200, ge=1, description="steps between looks at the features")


def projector(recipe: Pretraining, features: int) -> keras.Model:
    """The MLP between features (n, `features`) and the embeddings (n, d) that the loss compares.

    Barlow Twins: three layers of one width (arXiv:2103.03230, section 2.2). SimCLR: one hidden layer, 128 out
    (arXiv:2002.05709, section 2.1).
    """
    match recipe.objective:
        case "barlow_twins":
            widths = [recipe.projector] * 3
        case "simclr":
            widths = [recipe.projector, min(128, recipe.projector)]
        case never:
            assert_never(never)
    layers: list[keras.layers.Layer] = [keras.Input((features,))]
    for width in widths[:-1]:
        layers += [
            keras.layers.Dense(width, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    return keras.Sequential([*layers, keras.layers.Dense(widths[-1], use_bias=False, dtype="float32")], name="project")


class TwoViews(keras.Model):  # type: ignore[misc]
    """Images (n, s, s, 3) to the embeddings (n, 2, d) of two augmentations of each, with the loss between them."""

    def __init__(self, embed: keras.Model, recipe: Pretraining, *, seed: int) -> None:
        size = embed.input_shape[1]
        image = keras.Input((size, size, 3), name="image")
        augment = augmenter(recipe.augmentation, recipe.strength, size, seed, crop_area=recipe.crop_area)
        both = embed(ops.concatenate([augment(image), augment(image)], axis=0))
        pairs = ops.reshape(both, (2, -1, both.shape[-1]))
        super().__init__(image, ops.transpose(pairs, (1, 0, 2)), name="two_views")
        self.recipe = recipe

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> keras.KerasTensor:
        """The objective's loss of a batch's pairs; there are no targets."""
        first, second = ops.cast(y_pred[:, 0], "float32"), ops.cast(y_pred[:, 1], "float32")
        match self.recipe.objective:
            case "barlow_twins":
                return barlow_twins(first, second, off_diagonal=self.recipe.off_diagonal)
            case "simclr":
                return nt_xent(first, second, temperature=self.recipe.temperature)
            case never:
                assert_never(never)
