"""Optimization: the batch size and the learning rate that a configuration should train with on this machine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftrain.config.text import file
from selftrain.errors import ConfigError
from selftrain.learn.tuning.batch_size import BatchSearch, HostMemory, is_memory_error, largest_batch
from selftrain.learn.tuning.configured import ConfiguredTraining, Role, open_configured
from selftrain.learn.tuning.rate_range import RateRange, range_test
from selftrain.progress import Progress, noting, silent

if TYPE_CHECKING:
    from selftrain.learn.training.course import Unlabeled

_FEWEST_BATCHES = 4  # a pass over the training images has at least this many
_MEASURED_S = 2.0
_SMALLEST = 8
_ENDLESS = 1_000_000  # steps, more than are ever taken
_FEWEST_RANGE_STEPS = 10  # losses that tell a slope


@dataclass(frozen=True)
class Optimization:
    """What was measured for a role of a configuration, and whether it was written to the file `config`."""

    config: Path
    role: Role
    batch_size: int
    learning_rate: float
    batches: BatchSearch
    rates: RateRange
    written: bool


def learn_optimization(
    *,
    config: str | os.PathLike[str],
    role: Role = "teacher",
    most: int = 1024,
    range_steps: int = 200,
    write: bool = True,
    progress: Progress = silent,
) -> Optimization:
    """Measure the largest batch size that pays, then the learning rate for it, and write both into the file `config`.

    The batch size doubles until memory fails, twice the images a step are less than 10 % faster, `most` is reached, or
    a pass over the training images would have fewer than four steps. The rate is from a range test
    (arXiv:1506.01186) of `range_steps` steps from the weights that the training starts from, with its augmentation:
    that of the steepest descent between a tenth of the rate at the lowest averaged loss and that rate. It becomes the
    peak of the schedule. `steps` stay as they are: twice the batch is twice the work.

    The step of a student whose method learns in training (fixmatch, freematch, softmatch) is the whole one: for each
    labelled image of the batch, two views of `consistency.mu` unlabelled ones. Throughput counts them all.

    Throughput is this machine's: run it where you train, with nothing else running. Raises ConfigError for a file that
    is no configuration or cannot be written and for a `most` or `range_steps` that is too small, TrainingDivergedError
    where the loss is finite at no rate, NoFallError where it falls by no more than chance; the file is then as it was.
    """
    _refuse(most, range_steps)
    found = open_configured(config, role, progress=noting(progress, "ingest"))
    most = min(most, max(_SMALLEST, len(found.train) // _FEWEST_BATCHES), len(found.train))
    batches = largest_batch(
        Throughput(found), start=min(_SMALLEST, most), most=most, progress=noting(progress, "batch size")
    )
    training = Training(found, batches.batch_size)
    rates = range_test(training.step_at, steps=range_steps, progress=noting(progress, "learning rate"))
    rate = rounded(rates.suggestion)
    if write:
        values = {f"{role}.batch_size": batches.batch_size, f"{role}.learning_rate": rate}
        file.change(found.path, values, reasons=reasons(role, batches, range_steps))
    return Optimization(found.path, role, batches.batch_size, rate, batches, rates, write)


def _refuse(most: int, range_steps: int) -> None:
    """Raise ConfigError for a search that cannot find anything."""
    if most < 1:
        raise ConfigError(f"most is {most}; give the largest batch size to try, 1 or more")
    if range_steps < _FEWEST_RANGE_STEPS:
        raise ConfigError(f"range_steps is {range_steps}; give {_FEWEST_RANGE_STEPS} or more, 200 is usual")


def rounded(rate: float) -> float:
    """`rate` to two significant digits; the test tells no more.

    >>> rounded(0.0031234)
    0.0031
    """
    return round(rate, 1 - math.floor(math.log10(rate)))


class Throughput:
    """Measures training images a second by batch size, on a network and images as the configuration has them."""

    def __init__(self, found: ConfiguredTraining) -> None:
        self._found, self._memory = found, HostMemory()

    def __call__(self, batch_size: int) -> float:
        """Raises MemoryError where memory fails, or would."""
        self._memory.check(batch_size)
        try:
            speed = self._measure(batch_size)
        except Exception as error:
            if is_memory_error(error):
                raise MemoryError(str(error)) from error
            raise
        self._memory.measured()
        return speed

    def _measure(self, batch_size: int) -> float:
        training = Training(self._found, batch_size)
        training.step()  # traced and compiled
        steps, start, spent = 0, time.perf_counter(), 0.0
        while spent < _MEASURED_S or steps < 2:
            training.step()
            steps, spent = steps + 1, time.perf_counter() - start
        return steps * training.images_per_step / spent


class Training:
    """The steps of the configured training with another batch size, from the weights that it starts from."""

    def __init__(self, found: ConfiguredTraining, batch_size: int) -> None:
        """Compiles the network as the first phase of the training has it."""
        import keras

        from selftrain.learn.networks import backbones
        from selftrain.learn.networks.copies import at_precision
        from selftrain.learn.networks.device import jit
        from selftrain.learn.training import schedule
        from selftrain.learn.training.course import course
        from selftrain.learn.training.optimizer import FlatAdamW
        from selftrain.learn.training.run import untrained

        recipe = found.recipe.model_copy(update={"batch_size": batch_size})
        size, classes, seed = found.experiment.image_size, len(found.class_names), found.experiment.seed
        model = at_precision(
            untrained(recipe, found.backbone, image_size=size, classes=classes, seed=seed), recipe.precision
        )
        first = schedule.phases(recipe)[0]
        backbones.set_trainable(model, frozen=first.frozen, pretrained=recipe.weights is not None)
        endless = recipe.model_copy(update={"steps": recipe.steps + _ENDLESS})
        trained_on = course(endless, found.train, min_human_share=1.0, seed=seed, unlabeled=_at_full_weight(found))
        optimizer = FlatAdamW(first.rate, weight_decay=recipe.weight_decay, average=recipe.ema)
        self._trainer = trained_on.trainer(model)
        self._trainer.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=jit())
        self._batches: Iterator[Any] = iter(trained_on.dataset(0, endless.steps))
        self.images_per_step = trained_on.images_per_step

    def step(self) -> float:
        """The loss of the next batch alone."""
        import keras

        x, y, weights = keras.utils.unpack_x_y_sample_weight(next(self._batches))
        self._trainer.reset_metrics()
        return float(self._trainer.train_on_batch(x, y, weights, return_dict=True)["loss"])

    def step_at(self, rate: float) -> float:
        """The same, and the step is taken at `rate`, as are those after it."""
        self._trainer.optimizer.learning_rate = rate
        return self.step()


def _at_full_weight(found: ConfiguredTraining) -> Unlabeled | None:
    """The unlabelled images, at full weight from the first step: a rising one would hide a falling loss."""
    if found.unlabeled is None:
        return None
    settings = found.unlabeled.settings.model_copy(update={"ramp_up": 0.0})
    return replace(found.unlabeled, settings=settings)


def reasons(role: Role, batches: BatchSearch, steps: int) -> dict[str, str]:
    """The comments beside the two keys that are written."""
    larger = [speed for speed in batches.tried if speed.batch_size > batches.batch_size]
    why = "the most that was tried"
    if larger and larger[0].images_per_s is None:
        why = f"memory fails at {larger[0].batch_size}"
    elif larger and larger[0].images_per_s is not None:
        gain = larger[0].images_per_s / batches.images_per_s - 1
        why = f"{larger[0].batch_size} would be {100 * gain:.0f} % faster"
    return {
        f"{role}.batch_size": f"measured: {batches.images_per_s:.0f} images/s; {why}",
        f"{role}.learning_rate": f"measured: steepest descent below the lowest loss in a range test of {steps} steps",
    }
