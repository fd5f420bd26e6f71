"""Watching a training: its loss, its saves, its progress, and whether it was told to stop."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import keras

from selftrain.errors import TrainingDivergedError, TrainingInterruptedError
from selftrain.learn.networks.device import keep_freed_memory

if TYPE_CHECKING:
    from selftrain.learn.training.run import TrainingRun


class TrainingWatch(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Stops a training whose loss is not finite, saves it from time to time, and reports progress."""

    def __init__(self, run: TrainingRun, stop: int) -> None:
        super().__init__()
        self.run, self.start, self.loss_before = run, run.position.step, run.position.loss_sum
        self.count_before = run.position.loss_count
        self.stop, self.parts = stop, run.position.parts
        self.saved_at = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """`logs["loss"]` is the mean over the batches, or parts of batches, of this fit."""
        if batch == 0:  # by now the data set is open
            keep_freed_memory()
        done, part = divmod(batch + 1, self.parts)
        if part:
            return
        loss = float((logs or {})["loss"])
        step = self.start + done
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"the loss became {loss} at step {step} of {self.run.steps}; "
                f"lower learning_rate (now {self.run.recipe.learning_rate}) or lengthen warmup"
            )
        self.run.position = replace(
            self.run.position,
            step=step,
            loss_sum=self.loss_before + loss * done,
            loss_count=self.count_before + done,
        )
        if step < self.stop:  # at a look, the look saves
            self._save_in_time(step)
        halves = ", half a batch at a time: memory ran out" if self.parts > 1 else ""
        self.run.progress(step, self.run.steps, f"loss {loss:.3f}{halves}{self.run.spread.note}")

    def _save_in_time(self, step: int) -> None:
        checkpoints = self.run.checkpoints
        stopping = checkpoints.told_to_stop()
        if not stopping and time.monotonic() - self.saved_at < checkpoints.every_s:
            return
        _ = self.model  # Keras brings the variables up to date here on backends that keep them apart
        self.run.save()
        self.saved_at = time.monotonic()
        if stopping:
            checkpoints.sent()
            raise TrainingInterruptedError(
                f"told to stop at step {step} of {self.run.steps}, and saved; run it again, and it continues from there"
            )
