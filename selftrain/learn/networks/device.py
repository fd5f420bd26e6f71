"""Device: settings that fit the machine that trains."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import keras

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT, _MAPPED = 1 << 30, 32 << 20  # bytes; the latter is the most that glibc accepts


def jit() -> bool | str:
    """Keras's `jit_compile`: off under TensorFlow on a CPU, where XLA makes these networks 8-30 times slower."""
    if keras.backend.backend() != "tensorflow":
        return "auto"
    return "auto" if keras.distribution.list_devices("gpu") or keras.distribution.list_devices("tpu") else False


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next training step; without glibc, do nothing.

    TensorFlow's generator datasets feed Keras. The first one that opens sets glibc's trim threshold to 128 kB. Its mmap
    threshold then stops growing too. Without these settings, every larger tensor would be mapped, zeroed page by page
    and unmapped in every step.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_THRESHOLD, _MAPPED)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
