"""How long is a step of FixMatch, FreeMatch and SoftMatch, compared with forward and backward of as many images?

Ours fetches labelled and unlabelled images, augments both views and keeps the thresholds; the bare one is Keras `fit`
on arrays in memory: one cross-entropy over a batch of the size of all views, with the same network and optimizer.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, get_args

import numpy as np
from pydantic import JsonValue

from benchmarks import timing
from benchmarks.record import Check, Result
from benchmarks.steps import CLASSES, compile_as_trained, labelled, steps_of
from selftrain.config import Consistency, Method, Student

if TYPE_CHECKING:
    import keras

TARGET = 1.2
REPETITIONS = 5
STEPS, QUICK_STEPS = 12, 2
BATCH, MU, SIZE, IMAGES, LABELS = 16, 3, 32, 512, 100
BACKBONE = "efficientnet_b0_050"
METHODS: tuple[Method, ...] = tuple(method for method in get_args(Method) if method != "noisy_student")


def measure(*, quick: bool) -> Result:
    """Each method's step over the bare step."""
    steps = QUICK_STEPS if quick else STEPS
    calls = {"bare": bare(steps)} | {method: in_training(method, steps) for method in METHODS}
    for call in calls.values():
        call()  # traces
    taken = timing.in_turns(calls, repetitions=1 if quick else REPETITIONS)
    middle = {name: timing.median(times) for name, times in taken.items()}
    checks = [
        Check(
            what=f"{method}'s step over forward and backward",
            measured=middle[method].wall / middle["bare"].wall,
            relation="<=",
            target=TARGET,
        )
        for method in METHODS
    ]
    images: JsonValue = BATCH * (1 + 2 * MU)
    details: dict[str, JsonValue] = {"backbone": BACKBONE, "steps": steps, "images_a_step": images}
    details |= {
        f"{method}_ratio_of_processor_time": round(middle[method].cpu / middle["bare"].cpu, 3) for method in METHODS
    }
    return Result(checks=tuple(checks), details={**details, "seconds": timing.as_json(taken)})


def bare(steps: int) -> partial[object]:
    """`fit` on arrays."""
    network = _network()
    views = BATCH * (1 + 2 * MU)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (views * steps, SIZE, SIZE, 3), np.uint8)
    targets = np.eye(CLASSES, dtype=np.float32)[np.arange(views * steps) % CLASSES]
    compile_as_trained(network)
    return partial(network.fit, images, targets, batch_size=views, epochs=1, shuffle=False, verbose=0)


def in_training(method: Method, steps: int) -> partial[object]:
    """The method's own trainer on its own batches."""
    from selftrain.learn.training.course import Unlabeled, course

    recipe = Student(method=method, batch_size=BATCH, consistency=Consistency(mu=MU), augmentation="natural")
    chosen = course(
        recipe,
        labelled(SIZE, images=IMAGES, labels=LABELS),
        min_human_share=0.0,
        seed=0,
        unlabeled=Unlabeled(np.arange(IMAGES), method, recipe.consistency),
    )
    return steps_of(chosen, _network(), steps)


def _network() -> keras.Model:
    from selftrain.learn.networks import backbones

    return backbones.build(BACKBONE, image_size=SIZE, classes=CLASSES)
