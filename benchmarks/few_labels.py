"""Which method learns most from 4 labels per class: rounds, or one that learns in training?

Digits, one student each, the same network for as many image-steps. Only the rounds have a control here: it asks what
longer training alone gives, which is the same question for all.
"""

from __future__ import annotations

from functools import partial
from typing import Any, get_args

from benchmarks import draws
from benchmarks.protocol import Asked, Task, result, rows
from benchmarks.record import Check, Result
from benchmarks.rows import Row, mean
from selftrain.config import Consistency, DigitsSource, Experiment, Gate, Method, Student, Teacher

LABELED, VALIDATION, TEST = 40, 100, 400
SEEDS, QUICK_SEEDS = 3, 1
BACKBONE = "efficientnet_b0_050"
MU = 3
BATCH, BATCH_IN_TRAINING = 16, 8
IMAGE_STEPS, QUICK_IMAGE_STEPS = 22_400, 224  # of a student
TEACHER_STEPS, QUICK_TEACHER_STEPS = 480, 2
LOOKS = 4
FINISH = 20  # of the rounds' steps a twentieth is the finish
ROUNDS: Method = "noisy_student"


def measure(asked: Asked) -> Result:
    """A loop a method and draw; a GPU is given the same to do."""
    seeds = QUICK_SEEDS if asked.quick else SEEDS
    every = {
        method: rows(
            "few_labels",
            Task(f"4 labels a class, {method}", seeds, _draw, partial(_experiment, method, asked.quick)),
            asked,
        )
        for method in get_args(Method)
    }
    checks = [
        Check(what=f"{method}: mean gain over the first teacher", measured=_gain(ours), relation=">", target=0)
        for method, ours in every.items()
    ]
    return result(checks, [row for ours in every.values() for row in ours])


def _gain(ours: tuple[Row, ...]) -> float:
    return mean([row.teacher.difference for row in ours]).value


def _draw(seed: int) -> draws.Draw:
    return draws.digits(DigitsSource(seed=seed, labeled=LABELED, validation=VALIDATION, test=TEST))


def _experiment(method: Method, quick: bool, seed: int) -> Experiment:
    source = DigitsSource(seed=seed, labeled=LABELED, validation=VALIDATION, test=TEST)
    taught = QUICK_TEACHER_STEPS if quick else TEACHER_STEPS
    return Experiment(
        source=source,
        seed=100 * seed,
        control="supervised" if method == ROUNDS else "none",
        teacher=Teacher(steps=taught, validate_every=taught),
        student=Student(method=method, backbone=BACKBONE, **_schedule(method, quick=quick)),
        gate=Gate(target=1.0, min_rounds=1, max_rounds=1),
    )


def _schedule(method: Method, *, quick: bool) -> dict[str, Any]:
    """The keys of the recipe that make the image-steps of all methods the same."""
    images = QUICK_IMAGE_STEPS if quick else IMAGE_STEPS
    if method == ROUNDS:
        steps = images // BATCH
        finish = steps // FINISH
        every = -(-(steps - finish) // (LOOKS - 1))  # the last look is after the finish
        return {"batch_size": BATCH, "steps": steps - finish, "finish_steps": finish, "validate_every": every}
    steps = images // (BATCH_IN_TRAINING * (1 + 2 * MU))
    consistency = Consistency(mu=MU)
    return {
        "batch_size": BATCH_IN_TRAINING,
        "steps": steps,
        "validate_every": steps // LOOKS,
        "consistency": consistency,
    }
