"""Quiet start: Keras loads without the lines that TensorFlow's C++ always writes."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from selftrain.adapters.process.keras_settings import check_backend
from selftrain.adapters.process.leaving import leave
from selftrain.errors import NO_DEVICE

UNUSED = ("matplotlib", "pandas", "sklearn")
"""What Keras imports if it finds it, for figures, tables and wrappers that a command which predicts never makes."""

DEVICE_VARIABLE = "SELFTRAIN_DEVICE"


def start_keras(*, lean: bool = False) -> None:
    """Import Keras and start its devices. What this writes to stderr is shown only if it fails.

    What is written later is never hidden. `selftrain doctor` names the GPUs. Where SELFTRAIN_DEVICE is "gpu" and there
    is none, this process ends with NO_DEVICE: training on the CPU of a GPU node would go on for days unnoticed.

    `lean` is for commands that predict: Keras then does without the libraries UNUSED, whose loading takes as long as
    most of TensorFlow. Others can still import them afterwards.

    Of `keras.json` only the backend counts: channels come last and numbers are float32, whatever it says. Raises
    ConfigError for a backend that selftrain does not know.
    """
    if "keras" not in sys.modules:
        check_backend()
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # other steps may share the GPU
        with native_stderr_held(), _hidden(UNUSED if lean else ()):
            import keras

            keras.config.set_image_data_format("channels_last")
            keras.config.set_floatx("float32")
            keras.ops.zeros((1,))
    if os.environ.get(DEVICE_VARIABLE, "").lower() == "gpu":
        _check_gpu()


@contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    """Let the import of `names` fail within the block, except where they are loaded already."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None is Python's own mark for it
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def _check_gpu() -> None:
    import keras

    if not keras.distribution.list_devices("gpu"):
        leave(
            NO_DEVICE,
            f"{DEVICE_VARIABLE} is gpu, but {keras.backend.backend()} finds none on {platform.node()}; check the "
            "driver and the device plugin of this node, and that the image is the gpu one",
        )


@contextmanager
def native_stderr_held() -> Iterator[None]:
    """Send file descriptor 2 to a file for the block, and to the screen if the block fails."""
    sys.stderr.flush()
    try:
        screen = os.dup(2)
    except OSError:  # closed by the caller
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(screen, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
