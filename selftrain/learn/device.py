"""Device: what the machine that trains is good at."""

from __future__ import annotations

import keras


def jit() -> bool | str:
    """XLA where there is an accelerator; on a CPU it is 8-30 times slower for these networks under TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return "auto"
    return "auto" if keras.distribution.list_devices("gpu") or keras.distribution.list_devices("tpu") else False
