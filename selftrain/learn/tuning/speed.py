"""Speed: how many images a second a role's network trains on and labels on this machine, measured on noise."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from selftrain.config import Experiment, Recipe
from selftrain.data.store.pixels import ArrayPixels
from selftrain.learn.tuning.batch_and_rate import Throughput
from selftrain.learn.tuning.role_training import Role

if TYPE_CHECKING:
    from selftrain.learn.training.batches import Examples
    from selftrain.learn.training.course import Unlabeled

_IMAGES = 64
_MEASURED_S = 2.0


@dataclass(frozen=True)
class RoleSpeed:
    """Images per second of a role's network: training steps, those with a frozen backbone, and answers alone.

    `frozen` and `whole` are 0 where no step is taken; `frozen` also where no step has a frozen backbone.
    """

    forward: float
    whole: float = 0.0
    frozen: float = 0.0


@dataclass(frozen=True)
class _OnNoise:
    """A role's training with noise in place of its images. What a step costs does not depend on what they show."""

    experiment: Experiment
    recipe: Recipe
    backbone: str
    class_names: tuple[str, ...]
    train: Examples
    unlabeled: Unlabeled | None = None


def role_speed(experiment: Experiment, role: Role, backbone: str, *, class_names: tuple[str, ...]) -> RoleSpeed:
    """The speed of `role` with `backbone` on this machine, from some seconds of its own steps on images of noise.

    In-training methods and students that go on from their teacher are measured as plain training. Raises BackboneError
    for a network that cannot be built, and MemoryError where a batch does not fit.
    """
    recipe: Recipe = experiment.teacher if role == "teacher" else experiment.student
    training = _OnNoise(experiment, recipe, backbone, class_names, _noise(experiment.image_size, len(class_names)))
    forward = _forward(training)
    if recipe.fits_only:
        return RoleSpeed(forward)
    return RoleSpeed(
        forward,
        whole=_steps(training, freeze_steps=0),
        frozen=_steps(training, freeze_steps=recipe.freeze_steps) if recipe.freeze_steps else 0.0,
    )


def _noise(side: int, classes: int) -> Examples:
    from selftrain.learn.training.batches import Examples

    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (_IMAGES, side, side, 3), dtype=np.uint8)
    targets = np.eye(classes, dtype=np.float32)[np.arange(_IMAGES) % classes]
    everyone = np.ones(_IMAGES, dtype=np.float32)
    return Examples(ArrayPixels(pixels), np.arange(_IMAGES), targets, everyone, everyone.astype(bool))


def _steps(training: _OnNoise, *, freeze_steps: int) -> float:
    recipe = training.recipe.model_copy(update={"freeze_steps": freeze_steps})
    return Throughput(_OnNoise(training.experiment, recipe, training.backbone, training.class_names, training.train))(
        recipe.batch_size
    )


def _forward(training: _OnNoise) -> float:
    """Images per second of answers without training."""
    from selftrain.learn.networks import backbones

    experiment, classes = training.experiment, len(training.class_names)
    model = backbones.untrained(
        training.recipe, training.backbone, image_size=experiment.image_size, classes=classes, seed=experiment.seed
    )
    images = training.train.pixels.gather(np.arange(_IMAGES))
    model.predict(images, batch_size=_IMAGES, verbose=0)  # traced and compiled
    passes, start, spent = 0, time.perf_counter(), 0.0
    while spent < _MEASURED_S:
        model.predict(images, batch_size=_IMAGES, verbose=0)
        passes, spent = passes + 1, time.perf_counter() - start
    return passes * _IMAGES / spent
