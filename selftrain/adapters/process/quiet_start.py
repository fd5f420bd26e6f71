"""Quiet start: Keras and its devices are loaded without the lines that TensorFlow's C++ writes whatever it is told."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def start_keras() -> None:
    """Import Keras and wake its devices; what native code writes to stderr meanwhile shows only if it fails.

    Python's own warnings and errors are not hidden, nor is anything written later. `selftrain doctor` says what GPU
    there is.
    """
    if "keras" in sys.modules:
        return
    with _native_stderr_held():
        import keras

        keras.ops.zeros((1,))


@contextmanager
def _native_stderr_held() -> Iterator[None]:
    """File descriptor 2 goes to a file for the block, and on to the screen if the block fails."""
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
