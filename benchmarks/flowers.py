"""TensorFlow Flowers with ImageNet weights: what its two benchmarks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from benchmarks import cifar10, cifar10_pretrained, draws, pretrained
from benchmarks.protocol import Asked, Budget, Kind, Task, result, rows
from benchmarks.record import Result
from benchmarks.rows import gains
from selftrain.config import Experiment, Fixed, Gate, PseudoLabel, Student, Teacher

VALIDATION_PER_CLASS = 20
GATE_TARGET = 1.0  # never reached: every seed runs all its rounds


@dataclass(frozen=True)
class Setting:
    """One number of labels; `frozen` is the share of the steps that train the new top alone.

    `threshold` is the confidence from which a student learns a photo's pseudo-label.
    """

    name: str
    per_class: tuple[int, int] | None
    image_size: int
    threshold: float
    frozen: float
    start: Literal["new", "teacher"]
    recipe: Mapping[str, Any]
    budgets: Mapping[Kind, Budget]


# The larger network from the first teacher on; frozen share and threshold are those of cifar10_pretrained.py. Nothing
# was chosen on these photos, but under earlier settings the same test photos were read.
HALF = Setting(
    name="half the labels",
    per_class=None,
    image_size=96,
    threshold=cifar10.THRESHOLD,
    frozen=cifar10_pretrained.FROZEN,
    start="teacher",
    recipe={"batch_size": 32, "learning_rate": 2e-3},
    budgets={
        "cpu": Budget(seeds=3, teacher=24_000, student=24_000, rounds=2),
        "gpu": Budget(seeds=3, teacher=48_000, student=48_000, rounds=2),
    },
)
# What `selftrain init` chooses below 1,000 labels: heads fitted on frozen backbones, labels spread over similar photos.
# The control is the student's head on the labels alone: logistic regression on frozen features.
FEW_LABELS, FEW_SIZE, FEW_ROUNDS = 20, 160, 2
FEW_SEEDS, FEW_THRESHOLD, FEW_WEIGHT = 5, 0.5, 0.5
QUICK = Budget(seeds=1, teacher=16, student=320)


def measured(setting: Setting, asked: Asked) -> Result:
    """One number of labels."""
    budget = QUICK if asked.quick else setting.budgets[asked.kind]
    draw = partial(draws.flowers, per_class=setting.per_class)
    task = Task(setting.name, budget.seeds, draw, partial(_experiment, setting, budget))
    every = rows("flowers", task, asked)
    return result(gains(every), every)


def measured_few(asked: Asked) -> Result:
    """20 labels a class, with the settings of `selftrain init`."""
    draw = partial(draws.flowers, per_class=(FEW_LABELS, VALIDATION_PER_CLASS))
    task = Task(f"{FEW_LABELS} labels a class", 1 if asked.quick else FEW_SEEDS, draw, _few)
    every = rows("flowers", task, asked)
    return result(gains(every), every)


def _few(seed: int) -> Experiment:
    return Experiment(
        name="flowers",
        seed=100 * seed,
        control="supervised",
        image_size=FEW_SIZE,
        teacher=Teacher(**pretrained.teacher(), head="fitted", steps=0),
        student=Student(**pretrained.student(), head="fitted", steps=0, pseudo_weight=FEW_WEIGHT),
        pseudo_label=PseudoLabel(labeler="propagate", targets="hard", threshold=Fixed(value=FEW_THRESHOLD)),
        gate=Gate(target=GATE_TARGET, min_rounds=FEW_ROUNDS, max_rounds=FEW_ROUNDS),
    )


def _experiment(setting: Setting, budget: Budget, seed: int) -> Experiment:
    size = setting.recipe["batch_size"]
    network = pretrained.teacher() if setting.start == "new" else pretrained.student()
    teacher = {**setting.recipe, **network, **budget.steps("teacher", size)}
    student = {**setting.recipe, **pretrained.student(), "start": setting.start, **budget.steps("student", size)}
    return Experiment(
        name="flowers",
        seed=100 * seed,
        control="supervised",
        image_size=setting.image_size,
        teacher=Teacher(**teacher, freeze_steps=round(setting.frozen * teacher["steps"])),
        student=Student(**student, freeze_steps=round(setting.frozen * student["steps"])),
        pseudo_label=PseudoLabel(threshold=Fixed(value=setting.threshold)),
        gate=Gate(target=GATE_TARGET, min_rounds=budget.rounds, max_rounds=budget.rounds),
    )
