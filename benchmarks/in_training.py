"""How long does a step of FixMatch, FreeMatch and SoftMatch take, beside forward and backward of as many images?

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
from selftrain.config import Consistency, Method, Student
from selftrain.data.pixels import ArrayPixels

if TYPE_CHECKING:
    import keras

TARGET = 1.2
REPETITIONS = 5
STEPS, QUICK_STEPS = 12, 2
BATCH, MU, SIZE, CLASSES, IMAGES = 16, 3, 32, 10, 512
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
    _compile(network)
    return partial(network.fit, images, targets, batch_size=views, epochs=1, shuffle=False, verbose=0)


def in_training(method: Method, steps: int) -> partial[object]:
    """The method's own trainer on its own batches."""
    from selftrain.learn.batches import Examples
    from selftrain.learn.course import Unlabeled, course
    from selftrain.learn.feed import feed

    pixels = ArrayPixels(np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8))
    targets, ones = np.eye(CLASSES, dtype=np.float32)[np.arange(100) % CLASSES], np.ones(100, np.float32)
    recipe = Student(method=method, batch_size=BATCH, consistency=Consistency(mu=MU), augmentation="natural")
    chosen = course(
        recipe,
        Examples(pixels, np.arange(100), targets, ones, ones.astype(np.bool_)),
        min_human_share=0.0,
        seed=0,
        unlabeled=Unlabeled(np.arange(IMAGES), method, recipe.consistency),
    )
    trainer = chosen.trainer(_network())
    _compile(trainer)

    def fit() -> object:
        data = feed(chosen.dataset(0, steps))
        return trainer.fit(data, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)

    return partial(fit)


def _network() -> keras.Model:
    from selftrain.learn import backbones

    return backbones.build(BACKBONE, image_size=SIZE, classes=CLASSES)


def _compile(model: keras.Model) -> None:
    import keras

    from selftrain.learn.device import jit
    from selftrain.learn.optimizer import FlatAdamW

    optimizer = FlatAdamW(1e-3, weight_decay=1e-4, average=0.99)
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=jit())
    optimizer.build(model.trainable_variables)
