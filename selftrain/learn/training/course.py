"""Courses of training: what each step sees, and the trainer (a network around the model that computes the loss)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from selftrain.config import Consistency, Method, Recipe
from selftrain.learn.augmentation.mixing import Mix, MixingTrainer
from selftrain.learn.augmentation.policy import Augment, Strength, augmenter
from selftrain.learn.training.batches import Batches, Examples, balanced_weights, gathered_ahead, pool_positions, smooth
from selftrain.learn.training.consistency import ConsistencyTrainer, consistency_loss
from selftrain.learn.training.defaults import smoothing

if TYPE_CHECKING:
    import grain

_MEASURED_BATCH = 128
_STRONG_SEED, _MIX_SEED = 1, 2  # added to the first augmentation's seed


@dataclass(frozen=True)
class Unlabeled:
    """Images without labels, `rows` (n,) of the training's pixels, and the method that learns from them."""

    rows: NDArray[np.int64]
    method: Method
    settings: Consistency


class Course(Protocol):
    """The part in which trainings differ; the training loop around it is the same."""

    @property
    def digest(self) -> str:
        """Two courses with the same digest have the same data and order."""
        ...

    @property
    def images_per_step(self) -> int:
        """Images that go forward and back in a step."""
        ...

    def trainer(self, model: keras.Model) -> keras.Model:
        """A network with a loss for what `dataset` yields, around `model` (images to logits)."""
        ...

    def dataset(self, start: int, stop: int) -> grain.IterDataset[Any]:
        """What steps `start` to `stop` (exclusive) see."""
        ...

    def plain_batches(self, most: int) -> Iterator[NDArray[np.uint8]]:
        """Up to `most` images as prediction meets them, in batches of one size, for batch norm's statistics."""
        ...


def course(
    recipe: Recipe, train: Examples, *, min_human_share: float, seed: int, unlabeled: Unlabeled | None
) -> Course:
    """The course of `recipe`: labels alone, or labels and unlabelled images at once."""
    batches = Batches(_prepared(train, recipe), recipe.batch_size, seed, min_human_share, recipe.steps)
    if unlabeled is not None:
        return Consistent(recipe, batches, unlabeled)
    return Mixed(recipe, batches) if recipe.mixup or recipe.cutmix else Supervised(recipe, batches)


def _prepared(examples: Examples, recipe: Recipe) -> Examples:
    """The examples with smoothed targets and, if the recipe says so, weights that balance the classes."""
    weights = examples.weights
    if recipe.class_weights == "balanced":
        weights = balanced_weights(examples.targets, weights)
    targets = smooth(examples.targets, smoothing(recipe), hard=examples.named)
    return replace(examples, targets=targets, weights=weights)


@dataclass(frozen=True)
class Supervised:
    """Trains on augmented images and their targets, labels and pseudo-labels alike."""

    recipe: Recipe
    batches: Batches

    @property
    def digest(self) -> str:
        """A digest of the examples, their order and the shares in a batch."""
        batches = self.batches
        return _digest(batches.examples.digest, batches.seed, batches.min_human_share)

    @property
    def images_per_step(self) -> int:
        """The batch size."""
        return self.batches.batch_size

    def trainer(self, model: keras.Model) -> keras.Model:
        """A network from images to logits; the targets and weights come with the batch."""
        size = model.input_shape[1]
        image = keras.Input((size, size, 3), name="image")
        return keras.Model(image, model(_augment(self.recipe, self.recipe.strength, size, self.batches.seed)(image)))

    def dataset(self, start: int, stop: int) -> grain.IterDataset[Any]:
        """Images, targets and weights."""
        return gathered_ahead(self.batches, start, stop)

    def plain_batches(self, most: int) -> Iterator[NDArray[np.uint8]]:
        """Batches of the training images."""
        return _plain(self.batches, self.batches.examples.rows, most)


@dataclass(frozen=True)
class Mixed(Supervised):
    """Trains as `Supervised` does, on images and targets mixed by MixUp or CutMix."""

    def trainer(self, model: keras.Model) -> keras.Model:
        """A network from images and weighted targets to their loss."""
        recipe, seed = self.recipe, self.batches.seed
        mix = Mix(mixup=recipe.mixup, cutmix=recipe.cutmix, seed=seed + _MIX_SEED)
        return MixingTrainer(model, _augment(recipe, recipe.strength, model.input_shape[1], seed), mix)

    def dataset(self, start: int, stop: int) -> grain.IterDataset[Any]:
        """Images and targets times weights."""

        def weighted(step: int) -> tuple[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
            images, targets, weights = self.batches(step)
            return ((images, targets * weights[:, None]),)

        return gathered_ahead(weighted, start, stop)


@dataclass(frozen=True)
class Consistent:
    """Trains on labels and two views of unlabelled images in every step; in the finish only the labels' loss counts.

    The unlabelled images go through the network in the finish too, so that batch norm sees the same kind of images.
    """

    recipe: Recipe
    batches: Batches
    unlabeled: Unlabeled

    @property
    def digest(self) -> str:
        """A digest of the labelled and the unlabelled images, and the method."""
        rows = hashlib.sha256(self.unlabeled.rows.tobytes()).hexdigest()
        settings = self.unlabeled.settings.model_dump_json()
        return _digest(self.batches.examples.digest, self.batches.seed, rows, self.unlabeled.method, settings)

    @property
    def images_per_step(self) -> int:
        """The labelled images and both views of the unlabelled ones."""
        return self.batches.batch_size * (1 + 2 * self.unlabeled.settings.mu)

    def trainer(self, model: keras.Model) -> keras.Model:
        """A network from labelled and unlabelled images to the labelled ones' logits."""
        size, seed, settings = model.input_shape[1], self.batches.seed, self.unlabeled.settings
        return ConsistencyTrainer(
            model,
            consistency_loss(self.unlabeled.method, settings, classes=model.output_shape[-1]),
            weak=_augment(self.recipe, "weak", size, seed),
            strong=_augment(self.recipe, "strong", size, seed + _STRONG_SEED),
            ramp_steps=round(settings.ramp_up * self.recipe.steps),
            last_step=self.recipe.steps,
        )

    def dataset(self, start: int, stop: int) -> grain.IterDataset[Any]:
        """Labelled and unlabelled images, with the labelled ones' targets and weights."""
        rows, count = self.unlabeled.rows, self.batches.batch_size * self.unlabeled.settings.mu

        def both(step: int) -> tuple[Any, NDArray[np.float32], NDArray[np.float32]]:
            images, targets, weights = self.batches(step)
            at = pool_positions(self.batches.seed, len(rows), int(step), count)
            return (images, self.batches.examples.pixels.gather(rows[at])), targets, weights

        return gathered_ahead(both, start, stop)

    def plain_batches(self, most: int) -> Iterator[NDArray[np.uint8]]:
        """Batches of the unlabelled images, which are most of a step."""
        return _plain(self.batches, self.unlabeled.rows, most)


def _augment(recipe: Recipe, strength: Strength, size: int, seed: int) -> Augment:
    return augmenter(
        recipe.augmentation,
        strength,
        size,
        seed,
        operations=recipe.randaugment_operations,
        magnitude=recipe.randaugment_magnitude,
    )


def _plain(batches: Batches, rows: NDArray[np.int64], most: int) -> Iterator[NDArray[np.uint8]]:
    batch = min(_MEASURED_BATCH, len(rows))
    count = min(most, len(rows)) // batch * batch
    chosen = np.random.default_rng(batches.seed).permutation(rows)[:count]
    return (batches.examples.pixels.gather(chosen[i : i + batch]) for i in range(0, count, batch))


def _digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()
