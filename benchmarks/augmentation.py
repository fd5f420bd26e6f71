"""How many images per second are augmented, compared with keras.layers.RandAugment in the same forward pass?"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from pydantic import JsonValue

from benchmarks import timing
from benchmarks.record import Check, Result

TARGET = 2.0
REPETITIONS = 15
BATCH, SIZE = 64, 32


def measure(*, quick: bool) -> Result:
    """The presets, the mixing, and Keras's own layer."""
    import keras

    from selftrain.learn.augmentation.policy import augmenter

    batch = np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    layers = {
        f"{preset} {strength}": augmenter(preset, strength, SIZE, 0)
        for preset in ("digits", "natural")
        for strength in ("weak", "strong")
    }
    layers["keras RandAugment"] = keras.layers.RandAugment(seed=0)
    calls = {name: partial(_forward(layer).predict_on_batch, batch) for name, layer in layers.items()}
    for call in calls.values():
        call()  # traces
    taken = timing.in_turns(calls, repetitions=2 if quick else REPETITIONS)
    rate = {name: BATCH / timing.median(times).wall for name, times in taken.items()}
    check = Check(
        what="images per second of natural strong over keras.layers.RandAugment",
        measured=rate["natural strong"] / rate["keras RandAugment"],
        relation=">=",
        target=TARGET,
    )
    rates: JsonValue = {name: round(value) for name, value in rate.items()}
    details: dict[str, JsonValue] = {"batch": BATCH, "pixels": SIZE, "images_per_s": rates}
    return Result(checks=(check,), details=details)


def _forward(layer: Any) -> Any:
    import keras

    from selftrain.learn.networks.device import jit

    class Training(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def call(self, images: Any) -> Any:
            return self.layer(keras.ops.cast(images, "float32"), training=True)

        def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
            return input_shape

    image = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(image, Training()(image))
    model.compile(jit_compile=jit())
    return model
