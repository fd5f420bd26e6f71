"""Training: one model from examples, in steps. It resumes after a kill, and keeps the best look's averaged weights."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from selftrain.config import Recipe
from selftrain.errors import ConfigError, TrainingDivergedError
from selftrain.evaluate.statistics.intervals import standard_error
from selftrain.learn.models.calibrate import negative_log_likelihood
from selftrain.learn.models.predict import predict_logits
from selftrain.learn.networks import backbones, variables
from selftrain.learn.networks.batchnorm import Statistics
from selftrain.learn.networks.copies import at_precision, copied, write_weights
from selftrain.learn.networks.devices import Devices, Spread, spread
from selftrain.learn.networks.memory import halved_once, memory_named
from selftrain.learn.networks.quick_layers import quick_layers
from selftrain.learn.training import schedule
from selftrain.learn.training.batches import Examples
from selftrain.learn.training.checkpoint import Checkpoints, Look, Position
from selftrain.learn.training.course import Course, Unlabeled, course
from selftrain.learn.training.feed import feed
from selftrain.learn.training.optimizer import FlatAdamW
from selftrain.learn.training.watch import TrainingWatch
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa

_MEASURED_IMAGES, _MEASURED_AT_THE_END = 512, 4096  # images for batch norm's statistics


@dataclass(frozen=True)
class TrainingResult:
    """A trained model (its best weights by validation) and how it came about.

    `curve` has a row per look, as in `curve.SCHEMA`. A look measures batch norm's statistics on 512 training images.
    For the returned model they are measured on up to 4,096. So its answers to validation can differ a little from the
    row of `best_step`. `image_steps` is the work done: steps times images per step. `seconds` is wall time over all
    starts. `parts` is 2 if memory ran out, and the steps since then took their batch in two halves.
    """

    model: keras.Model
    curve: pa.Table
    best_step: int
    seconds: float
    image_steps: int
    parts: int = 1


def train(
    model: keras.Model,
    *,
    recipe: Recipe,
    train: Examples,
    validation: Examples,
    seed: int,
    checkpoints: Checkpoints,
    min_human_share: float = 0.0,
    unlabeled: Unlabeled | None = None,
    devices: Devices = 1,
    progress: Progress = silent,
) -> TrainingResult:
    """Train `model` on `train`, and keep the weights of the newest look at validation that is as good as the best.

    A look reads `validation`, every `recipe.validate_every` steps. It is as good as the best if its accuracy is within
    one standard error of the highest.

    The training uses AdamW, linear warm-up, cosine decay and label smoothing on hard labels. Weights are averaged over
    steps (EMA); batch norm's statistics are measured again for them.

    - `model`: images to logits, with a layer called "backbone". Its weights are the start, and it may be trained in
      place. The result is another model of its architecture, in float32 whatever `recipe.precision`.
    - `unlabeled`: images from which a method learns in the same steps.
    - `checkpoints`: where the training is saved, at each look and from time to time. A call with the same arguments
      continues from there, or returns at once if it had finished. Another training's checkpoint there is replaced.
    - `devices`: how many devices share each batch (`networks.devices.spread`). Looks at validation stay on one.

    If a step does not fit the device's memory, the training goes on from its last save with halves of its batches, as
    `memory.halved_once` describes.

    Raises TrainingDivergedError, naming the step, for a loss or answers that are not finite. Raises OutOfMemoryError if
    halves do not fit either, or the recipe does not allow them. Raises TrainingHeldError if another process runs the
    same training, and ConfigError for targets that do not fit the model.
    """
    classes = model.output_shape[-1]
    if train.targets.shape[1] != classes or validation.targets.shape[1] != classes:
        raise ConfigError(
            f"targets have {train.targets.shape[1]} (train) and {validation.targets.shape[1]} (validation) columns, "
            f"but the model answers {classes}; build them from one label map"
        )
    chosen = course(recipe, train, min_human_share=min_human_share, seed=seed, unlabeled=unlabeled)
    return train_course(
        model,
        chosen,
        recipe=recipe,
        validation=validation,
        checkpoints=checkpoints,
        devices=devices,
        progress=progress,
    )


def train_course(
    model: keras.Model,
    chosen: Course,
    *,
    recipe: Recipe,
    validation: Examples,
    checkpoints: Checkpoints,
    devices: Devices = 1,
    progress: Progress = silent,
) -> TrainingResult:
    """Train as `train` does, on a course that the caller chose."""
    position = Position(_fingerprint(model, recipe, chosen, validation))
    start = variables.read(model.weights)

    def begin(parts: int) -> TrainingResult:
        write_weights(model, start)
        at = replace(position, parts=parts)
        on = spread(devices, recipe, parts=parts)
        return TrainingRun(recipe, model, chosen, validation, checkpoints, at, on, progress).to_the_end()

    with checkpoints.held():
        return halved_once(begin)


def _fingerprint(model: keras.Model, recipe: Recipe, course: Course, validation: Examples) -> str:
    """Tells trainings apart: a checkpoint is continued only with the same fingerprint."""
    settings = recipe.model_dump(mode="json")
    network = (model.name, model.input_shape, model.output_shape, model.count_params())
    data = (course.digest, validation.digest)
    return hashlib.sha256(json.dumps((settings, network, data), sort_keys=True).encode()).hexdigest()


class TrainingRun:
    """One training in progress: the live model, its average, and how far it is."""

    def __init__(
        self,
        recipe: Recipe,
        model: keras.Model,
        course: Course,
        validation: Examples,
        checkpoints: Checkpoints,
        position: Position,
        spread: Spread,
        progress: Progress,
    ) -> None:
        self.recipe, self.course, self.validation = recipe, course, validation
        self.checkpoints, self.progress = checkpoints, progress
        self.position, self.spread = position, spread
        self.steps = schedule.total_steps(recipe)
        with spread.scope():
            self.live = at_precision(model if spread.alone else copied(model), recipe.precision)
            spread.share_statistics(self.live)
        self.averaged = copied(model)
        with spread.scope():
            self.trainer = course.trainer(self.live)
        self.best_weights: list[NDArray[Any]] = []
        self.statistics: Statistics | None = None
        self.started = time.monotonic()

    def to_the_end(self) -> TrainingResult:
        """Train what is left, and return the model with its best weights."""
        saved = self.checkpoints.load(self.position.fingerprint)
        finished = saved is not None and not saved[1]
        self.started = time.monotonic()
        if saved is not None:
            self.position = replace(saved[0], parts=max(saved[0].parts, self.position.parts))
            self.started -= self.position.seconds
            if self.position.best is not None:
                self.best_weights = self.checkpoints.load_best(self.position.best.step)
        for phase in schedule.phases(self.recipe):
            if self.position.step < phase.stop:
                self._train_phase(phase, saved[1] if saved else None)
                saved = None
        if not finished:
            self._measure_best()
            self.checkpoints.finish(self.position)
        return self._finished()

    def _train_phase(self, phase: schedule.Phase, saved: list[NDArray[Any]] | None) -> None:
        backbones.set_trainable(self.live, frozen=phase.frozen, pretrained=self.recipe.weights is not None)
        statistics = self.statistics = self._statistics(phase)
        with self.spread.scope():
            self._compile(phase)
        if saved is not None:
            self._restore(saved, with_optimizer=self.position.step > phase.start)
        self.spread.own_seeds(self.trainer)
        for stop in schedule.looks(phase, every=self.recipe.validate_every):
            if self.position.step < stop:
                self._fit(stop)
                self._look(stop, statistics)

    def _statistics(self, phase: schedule.Phase) -> Statistics:
        """Batch norm's statistics for the averaged model, without the layers that `phase` keeps as published."""
        backbones.set_trainable(self.averaged, frozen=phase.frozen, pretrained=self.recipe.weights is not None)
        return Statistics(self.averaged)

    def _compile(self, phase: schedule.Phase) -> None:
        optimizer = FlatAdamW(
            schedule.learning_rate(phase, warmup=self.recipe.warmup),
            weight_decay=self.recipe.weight_decay,
            average=self.recipe.ema,
            parts=self.position.parts,
        )
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        self.trainer.compile(optimizer, loss, jit_compile=self.spread.jit)
        optimizer.build(self.trainer.trainable_variables)

    def _fit(self, stop: int) -> None:
        watch = TrainingWatch(self, stop)
        parts = self.position.parts
        steps = (stop - self.position.step) * parts
        data = feed(self.course.dataset(self.position.step, stop), parts=parts)
        memory = memory_named(self.recipe, parts, lambda: self.position.step + 1)
        with memory, self.spread.scope(), quick_layers(self.live):
            self.trainer.fit(data, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[watch])

    def _look(self, step: int, statistics: Statistics) -> None:
        """Read validation with the averaged weights, keep them if they are the best, and save."""
        self._average()
        statistics.measure(self.course.plain_batches(_MEASURED_IMAGES))
        logits = predict_logits(self.averaged, self.validation.pixels, self.validation.rows)
        if not np.isfinite(logits).all():
            raise TrainingDivergedError(
                f"the weights of step {step} answer with NaN or infinity; "
                f"lower learning_rate (now {self.recipe.learning_rate}) or lengthen warmup"
            )
        labels = self.validation.targets.argmax(axis=1)
        right = float((logits.argmax(axis=1) == labels).mean())
        look = Look(
            step=step,
            loss=self.position.loss_sum / max(self.position.loss_count, 1),
            validation_loss=negative_log_likelihood(logits, labels, 1.0),
            validation_accuracy=right,
            learning_rate=float(self.trainer.optimizer.learning_rate),
            standard_error=standard_error(right, len(labels)),
        )
        self.position = self.position.after(look)
        if self.position.best == look:
            self.best_weights = variables.read(self.averaged.weights)
            self.checkpoints.save_best(step, self.best_weights)
        self.save()

    def _measure_best(self) -> None:
        """Measure batch norm's statistics for the best weights on more images, and save them.

        After a kill it does the same again, because the statistics depend on the weights alone.
        """
        best = self.position.best
        if best is None:
            return
        statistics = self.statistics or self._statistics(schedule.phases(self.recipe)[-1])
        variables.write(self.averaged.weights, self.best_weights)
        statistics.measure(self.course.plain_batches(_MEASURED_AT_THE_END))
        self.best_weights = variables.read(self.averaged.weights)
        self.checkpoints.save_best(best.step, self.best_weights)

    def _average(self) -> None:
        """Copy the optimizer's averaged weights, or the live ones if it keeps no average, to the averaged model."""
        variables.write(self.averaged.weights, variables.read(self.live.weights))
        if self.recipe.ema is not None:
            variables.write(self.averaged.trainable_variables, self.trainer.optimizer.averaged())

    def save(self) -> None:
        """Write the state to disk."""
        self.position = replace(self.position, seconds=time.monotonic() - self.started)
        state = (*self.trainer.variables, *self.trainer.optimizer.kept)
        self.checkpoints.save(self.position, variables.read(state))

    def _restore(self, saved: list[NDArray[Any]], *, with_optimizer: bool) -> None:
        state = list(self.trainer.variables)
        if with_optimizer:
            state += self.trainer.optimizer.kept
        variables.write(state, saved[: len(state)])

    def _finished(self) -> TrainingResult:
        import pyarrow as pa

        from selftrain.learn.training.curve import SCHEMA

        position, best = self.position, self.position.best
        if best is None:
            raise ConfigError("training never read validation; `steps` must be at least 1")
        variables.write(self.averaged.weights, self.best_weights)
        self.averaged.trainable = True
        curve = pa.Table.from_pylist([{**asdict(look), "kept": look == best} for look in position.looks], schema=SCHEMA)
        image_steps = position.step * self.course.images_per_step
        return TrainingResult(self.averaged, curve, best.step, position.seconds, image_steps, position.parts)
