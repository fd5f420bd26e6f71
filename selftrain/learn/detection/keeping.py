"""Keeping a detector's training: saved from time to time, so that it goes on after a kill with the same weights."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from selftrain.errors import TrainingInterruptedError
from selftrain.learn.networks import variables
from selftrain.learn.training.checkpoint import Checkpoints, Look, Position

if TYPE_CHECKING:
    import keras

    from selftrain.learn.detection.training import DetectorRun

Arrays = list[NDArray[Any]]


class Keeper:
    """The saves of one training in `checkpoints`; None saves nothing. `fingerprint` tells it from all others.

    Beside the network and the optimizer, `more` variables and arrays are saved: what a method changes as it goes.
    """

    def __init__(self, checkpoints: Checkpoints | None, fingerprint: str = "") -> None:
        self._checkpoints, self._position = checkpoints, Position(fingerprint)
        self._saved_at = time.monotonic()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes away from this training while the block runs (`Checkpoints.held`)."""
        with contextlib.nullcontext() if self._checkpoints is None else self._checkpoints.held():
            yield

    def finished(self) -> Arrays | None:
        """The final weights of a training that has ended before, in the model's order."""
        found = self._load()
        if found is None or found[1] or found[0].best is None or self._checkpoints is None:
            return None
        return self._checkpoints.load_best(found[0].best.step)

    def go_on(self, run: DetectorRun, more: Sequence[keras.Variable] = ()) -> Arrays | None:
        """Put what was saved back into `run` and `more`; the arrays of the method, or None at a beginning."""
        found = self._load()
        if found is None:
            return None
        state = self._state(run, more)
        variables.write(state, found[1][: len(state)])
        run.step = found[0].step
        return found[1][len(state) :]

    def in_time(
        self, run: DetectorRun, more: Sequence[keras.Variable] = (), arrays: Sequence[NDArray[Any]] = ()
    ) -> None:
        """Save, if it is time. Raises TrainingInterruptedError, once saved, if the training was told to stop."""
        if self._checkpoints is None:
            return
        stopping = self._checkpoints.told_to_stop()
        if not stopping and time.monotonic() - self._saved_at < self._checkpoints.every_s:
            return
        at = Position(self._position.fingerprint, step=run.step)
        self._checkpoints.save(at, [*variables.read(self._state(run, more)), *arrays])
        self._saved_at = time.monotonic()
        if stopping:
            self._checkpoints.sent()
            raise TrainingInterruptedError(
                f"told to stop at step {run.step}, and saved; run it again, and it continues from there"
            )

    def finish(self, model: keras.Model, steps: int, arrays: Sequence[NDArray[Any]] = ()) -> None:
        """Keep the final weights, and what the method leaves, in place of the state."""
        if self._checkpoints is None:
            return
        self._checkpoints.save_best(steps, [*variables.read(model.weights), *arrays])
        last = Look(steps, 0.0, 0.0, 1.0, 0.0)
        self._checkpoints.finish(Position(self._position.fingerprint, step=steps, looks=(last,)))

    def _load(self) -> tuple[Position, Arrays] | None:
        return None if self._checkpoints is None else self._checkpoints.load(self._position.fingerprint)

    def _state(self, run: DetectorRun, more: Sequence[keras.Variable]) -> list[keras.Variable]:
        return [*run.model.weights, *run.trainer.optimizer.kept, *more]
