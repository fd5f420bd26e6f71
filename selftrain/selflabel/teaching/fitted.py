"""A training without steps: a fitted head on a frozen backbone, looked at once."""

from __future__ import annotations

import math
import time
from dataclasses import asdict

import keras
import numpy as np
import pyarrow as pa

from selftrain.config import Recipe
from selftrain.errors import TrainingDivergedError
from selftrain.evaluate.statistics.intervals import standard_error
from selftrain.learn.heads.fitting import fit_head
from selftrain.learn.heads.logistic import Linear, Targets
from selftrain.learn.models.calibrate import negative_log_likelihood
from selftrain.learn.models.kept_features import head_logits
from selftrain.learn.training.batches import Examples, balanced_weights
from selftrain.learn.training.checkpoint import Look
from selftrain.learn.training.curve import SCHEMA
from selftrain.learn.training.run import TrainingResult
from selftrain.progress import Progress, silent


def fit_head_to(
    network: keras.Model, train: Examples, recipe: Recipe, *, seed: int, progress: Progress = silent
) -> Linear:
    """Fit the last layer of `network` to `train` in place, with the weights and the mirroring of `recipe`."""
    balanced = recipe.class_weights == "balanced"
    weights = balanced_weights(train.targets, train.weights) if balanced else train.weights
    targets = Targets(train.targets, weights, train.human)
    mirrored = recipe.augmentation == "natural"
    return fit_head(network, train.pixels, train.rows, targets, mirrored=mirrored, seed=seed, progress=progress)


def without_steps(network: keras.Model, validation: Examples, *, began: float) -> TrainingResult:
    """The result of a training that only fitted a head: `network` as it is, after one look at `validation`.

    `began` is the time (`time.monotonic()`) at which the fitting began. Nothing went back through the network, so it
    took no image-steps. Raises TrainingDivergedError for answers that are not finite.
    """
    logits = head_logits(network, validation.pixels, validation.rows)
    if not np.isfinite(logits).all():
        raise TrainingDivergedError("the fitted head answers with NaN or infinity; look at the weights file")
    labels = validation.targets.argmax(axis=1)
    right = float((logits.argmax(axis=1) == labels).mean())
    look = Look(
        step=0,
        loss=math.nan,  # no step had one
        validation_loss=negative_log_likelihood(logits, labels, 1.0),
        validation_accuracy=right,
        learning_rate=0.0,
        standard_error=standard_error(right, len(labels)),
    )
    curve = pa.Table.from_pylist([{**asdict(look), "kept": True}], schema=SCHEMA)
    return TrainingResult(network, curve, best_step=0, seconds=time.monotonic() - began, image_steps=0)
