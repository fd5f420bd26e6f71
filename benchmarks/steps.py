"""Training steps to time: a course of training on random images, compiled as a run compiles it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from selftrain.data.store.pixels import ArrayPixels

if TYPE_CHECKING:
    import keras

    from selftrain.learn.training.batches import Examples
    from selftrain.learn.training.course import Course

CLASSES = 10


def labelled(size: int, *, images: int, labels: int) -> Examples:
    """`images` random images of `size` pixels, the first `labels` of them with labels."""
    from selftrain.learn.training.batches import Examples

    pixels = ArrayPixels(np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8))
    targets, ones = np.eye(CLASSES, dtype=np.float32)[np.arange(labels) % CLASSES], np.ones(labels, np.float32)
    return Examples(pixels, np.arange(labels), targets, ones, ones.astype(np.bool_))


def compile_as_trained(model: keras.Model) -> None:
    """Compile `model` as training does."""
    import keras

    from selftrain.learn.networks.device import jit
    from selftrain.learn.training.optimizer import FlatAdamW

    optimizer = FlatAdamW(1e-3, weight_decay=1e-4, average=0.99)
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=jit())
    optimizer.build(model.trainable_variables)


def steps_of(chosen: Course, network: keras.Model, steps: int) -> partial[object]:
    """The first `steps` steps of `chosen` on `network`, each time that it is called."""
    from selftrain.learn.training.feed import feed

    trainer = chosen.trainer(network)
    compile_as_trained(trainer)

    def fit() -> object:
        data = feed(chosen.dataset(0, steps))
        return trainer.fit(data, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)

    return partial(fit)
