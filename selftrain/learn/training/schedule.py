"""The schedule: the learning rate of each step, and which steps keep the backbone frozen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import keras

from selftrain.config import Recipe
from selftrain.learn.training.defaults import finish


@dataclass(frozen=True)
class Phase:
    """Steps `start` to `stop` (exclusive) with one optimizer and the peak learning rate `rate`.

    The last `finish` of them see human labels alone.
    """

    start: int
    stop: int
    frozen: bool
    rate: float
    finish: int = 0


FINISH_RATE = 0.1  # of its phase's rate


def phases(recipe: Recipe) -> tuple[Phase, ...]:
    """One phase or two: a pretrained backbone is frozen first, then trained at a lower rate.

    The last phase includes the finish.

    >>> [(p.start, p.stop, p.frozen) for p in phases(Recipe(steps=10, weights="imagenet", freeze_steps=4))]
    [(0, 4, True), (4, 10, False)]
    """
    *first, last = _main_phases(recipe)
    return (*first, replace(last, stop=total_steps(recipe), finish=finish(recipe)))


def total_steps(recipe: Recipe) -> int:
    """The number of all steps of a training, with its finish."""
    return recipe.steps + finish(recipe)


def _main_phases(recipe: Recipe) -> tuple[Phase, ...]:
    if recipe.weights is None or recipe.freeze_steps == 0:
        return (Phase(0, recipe.steps, frozen=False, rate=recipe.learning_rate),)
    freeze = min(recipe.freeze_steps, recipe.steps)
    head = Phase(0, freeze, frozen=True, rate=recipe.learning_rate)
    whole = Phase(freeze, recipe.steps, frozen=False, rate=recipe.learning_rate * recipe.unfreeze_rate)
    return (head, whole) if freeze < recipe.steps else (head,)


def learning_rate(phase: Phase, *, warmup: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """A linear warm-up over the share `warmup` of the steps, then half a cosine to zero; the finish has another."""
    steps = phase.stop - phase.finish - phase.start
    rising = min(round(warmup * steps), steps - 1)
    main = (
        keras.optimizers.schedules.CosineDecay(0.0, steps - rising, warmup_target=phase.rate, warmup_steps=rising)
        if rising
        else keras.optimizers.schedules.CosineDecay(phase.rate, steps)
    )
    return _WithFinish(main, steps, phase.rate * FINISH_RATE, phase.finish) if phase.finish else main


class _WithFinish(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # keras ships no types
    """`main` for `steps` steps, then half a cosine from `rate` to zero over `finish` more."""

    def __init__(
        self, main: keras.optimizers.schedules.LearningRateSchedule, steps: int, rate: float, finish: int
    ) -> None:
        super().__init__()
        self.main, self.steps = main, steps
        self.finish = keras.optimizers.schedules.CosineDecay(rate, finish)

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        """The rate of `step`."""
        beyond = keras.ops.cast(step, "float32") - self.steps
        return keras.ops.where(beyond < 0, self.main(step), self.finish(keras.ops.maximum(beyond, 0.0)))


def looks(phase: Phase, *, every: int) -> tuple[int, ...]:
    """The steps after which validation is read: every `every` steps, before the finish and at the end.

    >>> looks(Phase(0, 10, frozen=False, rate=1.0), every=4)
    (4, 8, 10)
    """
    before = phase.stop - phase.finish
    inner = (*range((phase.start // every + 1) * every, before, every), before)
    return inner if not phase.finish else (*inner, *range((before // every + 1) * every, phase.stop, every), phase.stop)
