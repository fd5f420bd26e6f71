"""The schedule: which steps train with which rate, and which of them keep the backbone frozen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import keras

from selftrain.config import Recipe


@dataclass(frozen=True)
class Phase:
    """Steps `start` to `stop` (exclusive) with one optimizer and a peak learning rate `rate`."""

    start: int
    stop: int
    frozen: bool
    rate: float


FINISH_RATE = 0.1  # of the last phase's


def phases(recipe: Recipe) -> tuple[Phase, ...]:
    """One phase; two when a pretrained backbone is frozen first and then trained at a lower rate; and the finish.

    >>> [(p.start, p.stop, p.frozen) for p in phases(Recipe(steps=10, weights="imagenet", freeze_steps=4))]
    [(0, 4, True), (4, 10, False)]
    """
    main = _main_phases(recipe)
    finish = replace(main[-1], start=recipe.steps, stop=total_steps(recipe), rate=main[-1].rate * FINISH_RATE)
    return (*main, finish) if recipe.finish else main


def total_steps(recipe: Recipe) -> int:
    """All the steps of a training, its finish included."""
    return recipe.steps + recipe.finish


def _main_phases(recipe: Recipe) -> tuple[Phase, ...]:
    if recipe.weights is None or recipe.freeze_steps == 0:
        return (Phase(0, recipe.steps, frozen=False, rate=recipe.learning_rate),)
    freeze = min(recipe.freeze_steps, recipe.steps)
    head = Phase(0, freeze, frozen=True, rate=recipe.learning_rate)
    whole = Phase(freeze, recipe.steps, frozen=False, rate=recipe.learning_rate * recipe.unfreeze_rate)
    return (head, whole) if freeze < recipe.steps else (head,)


def learning_rate(phase: Phase, *, warmup: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up over the share `warmup` of the phase's steps, then half a cosine down to zero."""
    steps = phase.stop - phase.start
    rising = min(round(warmup * steps), steps - 1)
    if rising == 0:
        return keras.optimizers.schedules.CosineDecay(phase.rate, steps)
    return keras.optimizers.schedules.CosineDecay(0.0, steps - rising, warmup_target=phase.rate, warmup_steps=rising)


def looks(phase: Phase, *, every: int) -> tuple[int, ...]:
    """The steps after which validation is read: every `every` steps, and at the phase's end.

    >>> looks(Phase(0, 10, frozen=False, rate=1.0), every=4)
    (4, 8, 10)
    """
    inner = range((phase.start // every + 1) * every, phase.stop, every)
    return (*inner, phase.stop)
