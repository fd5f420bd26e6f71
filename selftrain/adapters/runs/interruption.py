"""Interruption: a step that is told to stop saves its training, and ends with a code that says so.

ZenML gives the steps of a dynamic pipeline that run in pods of their own no handler for SIGTERM, and marks a step whose
function raises as failed for good. So such a step ends here, before ZenML sees the exception. Its step run stays open,
and the replacement pod goes on with it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from selftrain.adapters.process.leaving import leave
from selftrain.errors import INTERRUPTED, OUT_OF_MEMORY, MirrorError, OutOfMemoryError, TrainingInterruptedError
from selftrain.learn.networks.memory import ran_out_of_memory

CHECKPOINTS_VARIABLE = "SELFTRAIN_CHECKPOINTS"
DEADLINE_S = 25.0  # Kubernetes kills a pod 30 s after SIGTERM


class Interruption:
    """Whether this process was told to stop."""

    def __init__(self) -> None:
        self.requested = False

    def told_to_stop(self) -> bool:
        """True from the first SIGTERM on."""
        return self.requested

    def request(self, *_: object) -> None:
        """What SIGTERM calls. A training that does not reach its next step in time is ended with its last save."""
        if not self.requested:
            self.requested = True
            timer = threading.Timer(DEADLINE_S, leave, (INTERRUPTED, "no step ended in time; the last save counts"))
            timer.daemon = True
            timer.start()


def checkpoint_store() -> str | None:
    """Where checkpoints are kept for other machines, from SELFTRAIN_CHECKPOINTS; None on a single machine."""
    return os.environ.get(CHECKPOINTS_VARIABLE) or None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """SIGTERM stops a training gently while the block runs, and the process ends with INTERRUPTED.

    Running out of memory ends it with OUT_OF_MEMORY. Without SELFTRAIN_CHECKPOINTS, or outside the main thread,
    nothing changes: ZenML's own handlers and statuses apply.
    """
    interruption = Interruption()
    if checkpoint_store() is None or threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = signal.signal(signal.SIGTERM, interruption.request)
    try:
        yield interruption
    except TrainingInterruptedError as stop:
        leave(INTERRUPTED, stop.message)
    except MirrorError as error:
        if not interruption.requested:
            raise
        leave(INTERRUPTED, error.message)
    except OutOfMemoryError as error:
        leave(OUT_OF_MEMORY, error.message)
    except Exception as error:
        if not ran_out_of_memory(error):
            raise
        leave(OUT_OF_MEMORY, f"out of memory: {str(error).splitlines()[0]}; lower batch_size, or give the step more")
    finally:
        signal.signal(signal.SIGTERM, before)
