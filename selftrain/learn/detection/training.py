"""Training a detector on labelled scenes: a first teacher, the burn-in of Unbiased Teacher, and its control."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import keras
import numpy as np
from numpy.typing import NDArray

from selftrain.errors import TrainingDivergedError
from selftrain.learn.detection.keeping import Keeper
from selftrain.learn.detection.losses import detection_loss
from selftrain.learn.detection.network import DetectorShape, freeze_statistics
from selftrain.learn.detection.scenes import Scenes, ahead, views_of
from selftrain.learn.detection.views import Moves
from selftrain.learn.networks import variables
from selftrain.learn.networks.batchnorm import Statistics
from selftrain.learn.networks.quick_layers import quick_layers
from selftrain.learn.shapes.boxes import Grid, grid
from selftrain.learn.shapes.objects import packed
from selftrain.learn.training.optimizer import FlatAdamW
from selftrain.learn.training.schedule import Phase, learning_rate
from selftrain.progress import Progress, silent

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

_MEASURED_BATCHES = 32  # for batch norm's statistics


@dataclass(frozen=True)
class DetectorRecipe:
    """How a detector is trained: `steps` of `batch_size` views of `size` pixels; `most` objects in a view count."""

    steps: int = 500
    batch_size: int = 8
    size: int = 128
    learning_rate: float = 2e-3
    warmup: float = 0.1
    weight_decay: float = 1e-4
    ema: float = 0.99
    share_strong: float = 0.5
    most: int = 100
    moves: Moves = field(default_factory=Moves)


class Trainer(keras.Model):  # type: ignore[misc]  # keras ships no types
    """A detector in training: its loss on packed objects."""

    def __init__(self, detector: keras.Model, where: Grid, tops: tuple[float, ...]) -> None:
        super().__init__()
        self.detector, self._where, self._tops = detector, where, tops

    def call(self, images: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        return self.detector(images, training=training)

    def compute_loss(
        self,
        x: keras.KerasTensor = None,
        y: keras.KerasTensor = None,
        y_pred: keras.KerasTensor = None,
        sample_weight: keras.KerasTensor = None,
        training: bool = True,
    ) -> keras.KerasTensor:
        """See `losses.detection_loss`."""
        answers, prototypes = y_pred if isinstance(y_pred, (list, tuple)) else (y_pred, None)
        return detection_loss(y, answers, self._where, self._tops, prototypes)


class DetectorRun:
    """A training of `model` in progress: its weights, their average, and the step it is at.

    `steady`: batch norm runs on its moving statistics, as for published weights and after a burn-in.
    """

    def __init__(self, model: keras.Model, shape: DetectorShape, recipe: DetectorRecipe, *, steady: bool) -> None:
        self.model, self.recipe, self.step, self.masks = model, recipe, 0, bool(shape.masks)
        if steady:
            freeze_statistics(model)
        self.trainer = Trainer(model, grid(recipe.size, recipe.size, shape.strides), shape.tops)
        phase = Phase(0, recipe.steps, frozen=False, rate=recipe.learning_rate)
        rate = learning_rate(phase, warmup=recipe.warmup)
        self.trainer.compile(FlatAdamW(rate, weight_decay=recipe.weight_decay, average=recipe.ema), jit_compile=False)
        self.trainer.optimizer.build(self.trainer.trainable_variables)

    def learn(self, images: Pixels, objects: Floats) -> float:
        """One step on `images` (n, s, s, 3) with packed `objects` (n, most, 10); its loss.

        Raises TrainingDivergedError, naming the step, for a loss that is not finite.
        """
        with quick_layers(self.model):
            loss = float(self.trainer.train_on_batch(images, objects))
        self.step += 1
        if not np.isfinite(loss):
            raise TrainingDivergedError(
                f"the loss of step {self.step} is {loss}; lower learning_rate (now {self.recipe.learning_rate})"
            )
        return loss

    def averaged(self) -> list[NDArray[np.float32]]:
        """The average of the trainable weights, in the model's order."""
        averaged: list[NDArray[np.float32]] = self.trainer.optimizer.averaged()
        return averaged


def train_detector(
    model: keras.Model,
    shape: DetectorShape,
    recipe: DetectorRecipe,
    scenes: Scenes,
    *,
    seed: int,
    steady: bool | None = None,
    keeper: Keeper | None = None,
    progress: Progress = silent,
) -> keras.Model:
    """Train `model` in place on the labels of `scenes`, and leave the averaged weights in it.

    `steady` (by default for published weights) keeps batch norm's statistics; else they are measured at the end. A
    `keeper` saves the training: one that was killed goes on, and one that has ended is not done again.
    """
    kept = keeper or Keeper(None)
    if (final := kept.finished()) is not None:
        variables.write(model.weights, final)
        return model
    keeps = shape.weights is not None if steady is None else steady
    run = DetectorRun(model, shape, recipe, steady=keeps)
    kept.go_on(run)
    for images, objects in ahead(
        lambda step: _labelled(scenes, recipe, seed, step, masks=run.masks), range(run.step, recipe.steps)
    ):
        loss = run.learn(images, objects)
        progress(run.step, recipe.steps, f"loss {loss:.3f}")
        kept.in_time(run)
    variables.write(model.trainable_variables, run.averaged())
    if not keeps:
        measure_statistics(model, scenes, recipe, seed)
    kept.finish(model, recipe.steps)
    return model


def measure_statistics(model: keras.Model, scenes: Scenes, recipe: DetectorRecipe, seed: int) -> None:
    """Give batch norm the statistics of weak views of `scenes`, under the weights that `model` has."""
    Statistics(model).measure(_plain(scenes, recipe, seed))


def _labelled(scenes: Scenes, recipe: DetectorRecipe, seed: int, step: int, *, masks: bool) -> tuple[Pixels, Floats]:
    """The views of a step, and their objects."""
    views = views_of(
        scenes,
        (seed, step),
        count=recipe.batch_size,
        size=recipe.size,
        moves=recipe.moves,
        share_strong=recipe.share_strong,
    )
    return views.strong, packed(views.objects, most=recipe.most, masks=masks)


def _plain(scenes: Scenes, recipe: DetectorRecipe, seed: int) -> Iterator[Pixels]:
    """Batches of weak views, for batch norm's statistics."""
    for index in range(_MEASURED_BATCHES):
        at = (seed, recipe.steps + index)
        yield views_of(scenes, at, count=recipe.batch_size, size=recipe.size, moves=recipe.moves, share_strong=0).weak
