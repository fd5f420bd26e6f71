"""Device: what the machine that trains is good at."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import keras

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT, _MAPPED = 1 << 30, 32 << 20  # bytes; the latter is the most that glibc takes


def jit() -> bool | str:
    """XLA where there is an accelerator; on a CPU it is 8-30 times slower for these networks under TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return "auto"
    return "auto" if keras.distribution.list_devices("gpu") or keras.distribution.list_devices("tpu") else False


def keep_freed_memory() -> None:
    """Have glibc keep what a training step frees for the next one; elsewhere nothing is done.

    TensorFlow's generator datasets, through which Keras is fed, set glibc's trim threshold to 128 kB when the first is
    opened. That also ends the growth of its mmap threshold: every larger tensor is then mapped, zeroed page by page and
    unmapped again in every step.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_THRESHOLD, _MAPPED)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
