"""Batch and rate: the batch size and the learning rate that an experiment should train with on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from selftrain.config import Experiment, Recipe
from selftrain.errors import ConfigError
from selftrain.learn.networks.memory import ran_out_of_memory
from selftrain.learn.tuning.batch_size import BatchSearch, HostMemory, largest_batch
from selftrain.learn.tuning.rate_range import RateRange, range_test
from selftrain.learn.tuning.role_training import Role, open_role
from selftrain.progress import Progress, noting, silent

if TYPE_CHECKING:
    from selftrain.learn.training.batches import Examples
    from selftrain.learn.training.course import Unlabeled

_FEWEST_BATCHES = 4  # in a pass over the training images
_MEASURED_S = 2.0
_SMALLEST = 8
_ENDLESS = 1_000_000  # steps, more than are ever taken
_FEWEST_RANGE_STEPS = 10  # losses that show a slope


@dataclass(frozen=True)
class BatchAndRate:
    """The batch size and learning rate measured for a role of an experiment, and how they were found."""

    role: Role
    batch_size: int
    learning_rate: float
    batches: BatchSearch
    rates: RateRange
    range_steps: int

    @property
    def changes(self) -> dict[str, object]:
        """The two dotted keys of the configuration, with their values."""
        return {f"{self.role}.batch_size": self.batch_size, f"{self.role}.learning_rate": self.learning_rate}

    @property
    def reasons(self) -> dict[str, str]:
        """Why each of these keys has its value, for a comment beside it."""
        rate = f"measured: steepest descent below the lowest loss in a range test of {self.range_steps} steps"
        return {f"{self.role}.batch_size": _why(self.batches), f"{self.role}.learning_rate": rate}


def _why(batches: BatchSearch) -> str:
    """Why no larger batch was taken."""
    larger = [speed for speed in batches.tried if speed.batch_size > batches.batch_size]
    why = "the most that was tried"
    if larger and larger[0].images_per_s is None:
        why = f"memory fails at {larger[0].batch_size}"
    elif larger and larger[0].images_per_s is not None:
        gain = larger[0].images_per_s / batches.images_per_s - 1
        why = f"{larger[0].batch_size} would be {100 * gain:.0f} % faster"
    return f"measured: {batches.images_per_s:.0f} images/s; {why}"


def measure_batch_and_rate(
    experiment: Experiment, *, role: Role, most: int, range_steps: int, progress: Progress = silent
) -> BatchAndRate:
    """The largest batch size that pays on this machine, up to `most`, then the learning rate for it.

    `selftrain.learn_optimization` explains the search and raises what this raises.
    """
    _refuse(most, range_steps)
    training = open_role(experiment, role, progress=noting(progress, "ingest"))
    most = min(most, max(_SMALLEST, len(training.train) // _FEWEST_BATCHES), len(training.train))
    batches = largest_batch(
        Throughput(training), start=min(_SMALLEST, most), most=most, progress=noting(progress, "batch size")
    )
    steps = TrialSteps(training, batches.batch_size)
    rates = range_test(steps.step_at, steps=range_steps, progress=noting(progress, "learning rate"))
    return BatchAndRate(role, batches.batch_size, rounded(rates.suggestion), batches, rates, range_steps)


def _refuse(most: int, range_steps: int) -> None:
    """Raise ConfigError for a search that cannot find anything."""
    if most < 1:
        raise ConfigError(f"most is {most}; give the largest batch size to try, 1 or more")
    if range_steps < _FEWEST_RANGE_STEPS:
        raise ConfigError(f"range_steps is {range_steps}; give {_FEWEST_RANGE_STEPS} or more, such as 200")


def rounded(rate: float) -> float:
    """`rate` to two significant digits, as precise as the test is.

    >>> rounded(0.0031234)
    0.0031
    """
    return round(rate, 1 - math.floor(math.log10(rate)))


class Measurable(Protocol):
    """What the steps of a training need: a recipe, its backbone, and images with their targets."""

    @property
    def experiment(self) -> Experiment: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def backbone(self) -> str: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def train(self) -> Examples: ...
    @property
    def unlabeled(self) -> Unlabeled | None: ...


class Throughput:
    """Measures training images per second by batch size, with the network and images of a role's training."""

    def __init__(self, training: Measurable) -> None:
        self._training, self._memory = training, HostMemory()

    def __call__(self, batch_size: int) -> float:
        """Images per second at `batch_size`. Raises MemoryError if memory fails, or would fail."""
        self._memory.check(batch_size)
        try:
            speed = self._measure(batch_size)
        except Exception as error:
            if ran_out_of_memory(error):
                raise MemoryError(str(error)) from error
            raise
        self._memory.measured()
        return speed

    def _measure(self, batch_size: int) -> float:
        trial = TrialSteps(self._training, batch_size)
        trial.step()  # the first step is traced and compiled
        steps, start, spent = 0, time.perf_counter(), 0.0
        while spent < _MEASURED_S or steps < 2:
            trial.step()
            steps, spent = steps + 1, time.perf_counter() - start
        return steps * trial.images_per_step / spent


class TrialSteps:
    """The steps of a role's training with another batch size, from its first weights."""

    def __init__(self, training: Measurable, batch_size: int) -> None:
        """Compiles the network as the first phase of the training has it."""
        import keras

        from selftrain.learn.networks import backbones
        from selftrain.learn.networks.copies import at_precision
        from selftrain.learn.networks.device import jit
        from selftrain.learn.training import schedule
        from selftrain.learn.training.course import course
        from selftrain.learn.training.optimizer import FlatAdamW

        recipe = training.recipe.model_copy(update={"batch_size": batch_size})
        size, classes, seed = training.experiment.image_size, len(training.class_names), training.experiment.seed
        model = at_precision(
            backbones.untrained(recipe, training.backbone, image_size=size, classes=classes, seed=seed),
            recipe.precision,
        )
        first = schedule.phases(recipe)[0]
        backbones.set_trainable(model, frozen=first.frozen, pretrained=recipe.weights is not None)
        endless = recipe.model_copy(update={"steps": recipe.steps + _ENDLESS})
        steps = course(endless, training.train, min_human_share=1.0, seed=seed, unlabeled=_at_full_weight(training))
        optimizer = FlatAdamW(first.rate, weight_decay=recipe.weight_decay, average=recipe.ema)
        self._trainer = steps.trainer(model)
        self._trainer.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=jit())
        self._batches: Iterator[Any] = iter(steps.dataset(0, endless.steps))
        self.images_per_step = steps.images_per_step

    def step(self) -> float:
        """The loss of the next batch alone."""
        import keras

        x, y, weights = keras.utils.unpack_x_y_sample_weight(next(self._batches))
        self._trainer.reset_metrics()
        return float(self._trainer.train_on_batch(x, y, weights, return_dict=True)["loss"])

    def step_at(self, rate: float) -> float:
        """The loss as `step` returns it; this step and those after it are taken at `rate`."""
        self._trainer.optimizer.learning_rate = rate
        return self.step()


def _at_full_weight(training: Measurable) -> Unlabeled | None:
    """The unlabelled images at full weight from the first step: a rising weight would hide a falling loss."""
    if training.unlabeled is None:
        return None
    settings = training.unlabeled.settings.model_copy(update={"ramp_up": 0.0})
    return replace(training.unlabeled, settings=settings)
