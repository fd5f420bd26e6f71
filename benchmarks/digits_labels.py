"""Does the digits run beat its first teacher and its control at 10 and 20 labels per class?"""

from __future__ import annotations

from functools import partial

from benchmarks import digits, draws
from benchmarks.protocol import Asked, Task, result, rows
from benchmarks.record import Result
from benchmarks.rows import gains
from selftrain.config import DigitsSource, Experiment

CLASSES, PER_CLASS = 10, (10, 20)
SEEDS, QUICK_SEEDS = 5, 1
QUICK_STEPS = (2, 30)  # of a teacher that its student surpasses; else those of the digits run


def measure(asked: Asked) -> Result:
    """Both numbers of labels; a GPU is given the same to do."""
    tasks = [task(count, quick=asked.quick) for count in PER_CLASS]
    every = {each.name: rows("digits_labels", each, asked) for each in tasks}
    checks = [check for name, ours in every.items() for check in gains(ours, of=name)]
    return result(checks, [row for ours in every.values() for row in ours])


def task(count: int, *, quick: bool) -> Task:
    """The digits run at `count` labels a class, and its control."""
    draw, experiment = partial(_draw, CLASSES * count), partial(_experiment, CLASSES * count, quick)
    return Task(f"{count} labels a class", QUICK_SEEDS if quick else SEEDS, draw, experiment)


def _draw(labeled: int, seed: int) -> draws.Draw:
    return draws.digits(DigitsSource(seed=seed, labeled=labeled))


def _experiment(labeled: int, quick: bool, seed: int) -> Experiment:
    e = digits.experiment(seed, labeled=labeled).model_copy(update={"control": "supervised"})
    if not quick:
        return e
    teacher, student = (
        digits.shortened(recipe, steps) for recipe, steps in zip((e.teacher, e.student), QUICK_STEPS, strict=True)
    )
    gate = e.gate.model_copy(update={"max_rounds": 1})
    return e.model_copy(update={"teacher": teacher, "student": student, "gate": gate})
