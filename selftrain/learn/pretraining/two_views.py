"""Two views: the networks that embed two augmentations of each image and compare them."""

from __future__ import annotations

from typing import Any, assert_never

import keras
from keras import ops

from selftrain.config import Pretraining
from selftrain.learn.augmentation.policy import augmenter
from selftrain.learn.pretraining.view_losses import barlow_twins, nt_xent


def projector(recipe: Pretraining, features: int) -> keras.Model:
    """The MLP between features (n, `features`) and the embeddings (n, d) that the loss compares.

    Barlow Twins uses three layers of one width (arXiv:2103.03230, section 2.2). SimCLR uses one hidden layer and at
    most 128 outputs (arXiv:2002.05709, section 2.1).
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


class TwoViews(keras.Model):  # type: ignore[misc]  # keras ships no types
    """A network from images (n, s, s, 3) to embeddings (n, 2, d) of two augmentations of each, with their loss."""

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
        """The objective's loss between the pairs of a batch, which has no targets."""
        first, second = ops.cast(y_pred[:, 0], "float32"), ops.cast(y_pred[:, 1], "float32")
        match self.recipe.objective:
            case "barlow_twins":
                return barlow_twins(first, second, off_diagonal=self.recipe.off_diagonal)
            case "simclr":
                return nt_xent(first, second, temperature=self.recipe.temperature)
            case never:
                assert_never(never)
