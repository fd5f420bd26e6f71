"""What do 20,000 unlabelled images add to 40 labels a class of CIFAR-10, from scratch, on two cores?

`IMAGE_STEPS` sets the student's budget. The default takes about 25 minutes of two cores with its control; 1,200,000
fill the 90 minutes of two cores without it.
"""

from __future__ import annotations

import os
from functools import partial

from benchmarks import cifar10, draws
from benchmarks.protocol import Asked, Budget, Task, result, rows
from benchmarks.record import Check, Result
from benchmarks.rows import Row, gains, mean
from selftrain.config import Consistency, Experiment, Fixed, Gate, PseudoLabel, Student, Teacher

NAMES = "40 a class + 20,000"
TRAIN, VALIDATION = 40, 20  # a class
IMAGE_STEPS = int(os.environ.get("IMAGE_STEPS", "250000"))
BUDGET = Budget(seeds=1, teacher=60_000, student=IMAGE_STEPS)
BATCH, MU = 32, 3
RECIPE = {
    **cifar10.from_scratch("cpu"),
    "backbone": "wide_resnet_16_2",
    "precision": "mixed_bfloat16",
    "batch_size": BATCH,
}
TARGET = 0.06  # accuracy over the control


def measure(asked: Asked) -> Result:
    """A teacher on the labels, a student that goes on from it by SoftMatch, and the control of equal image-steps."""
    budget = cifar10.QUICK if asked.quick else BUDGET
    task = Task(NAMES, budget.seeds, partial(_draw, quick=asked.quick), partial(_experiment, budget))
    ours = rows("cifar10_few", task, asked)
    return result((_check(ours), *gains(ours)), ours)


def _draw(seed: int, *, quick: bool) -> draws.Draw:
    pool, test = (1_000, 500) if quick else (20_000, 10_000)
    return draws.cifar10_few(seed, train=TRAIN, validation=VALIDATION, unlabeled=pool, test=test)


def _experiment(budget: Budget, seed: int) -> Experiment:
    student = {key: value for key, value in RECIPE.items() if key != "strength"}  # it takes weak and strong views
    student |= {"start": "teacher", "method": "softmatch", "consistency": Consistency(mu=MU)}
    return Experiment(
        name="cifar10",
        seed=100 * seed,
        control="supervised",
        teacher=Teacher(**{**RECIPE, **budget.steps("teacher", BATCH)}),
        student=Student(**{**student, **budget.steps("student", BATCH * (1 + 2 * MU))}),
        pseudo_label=PseudoLabel(threshold=Fixed(value=cifar10.THRESHOLD)),
        gate=Gate(target=1.0, min_rounds=1, max_rounds=1),
    )


def _check(ours: tuple[Row, ...]) -> Check:
    gain = mean([row.control.difference for row in ours if row.control]).value
    return Check(what="gain over the control, target", measured=gain, relation=">=", target=TARGET)
