"""Quiet start: Keras loads without the lines that TensorFlow's C++ always writes."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def start_keras() -> None:
    """Import Keras and start its devices. What this writes to stderr is shown only if it fails.

    What is written later is never hidden. `selftrain doctor` names the GPUs.
    """
    if "keras" in sys.modules:
        return
    with native_stderr_held():
        import keras

        keras.ops.zeros((1,))


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
