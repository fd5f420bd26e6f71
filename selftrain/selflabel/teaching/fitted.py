"""A training without steps: a fitted head on a frozen backbone, looked at once."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict

import keras
import numpy as np
import pyarrow as pa

from selftrain.config import Recipe
from selftrain.errors import TrainingDivergedError
from selftrain.evaluate.statistics.forecast import ClassNeed, LabelForecast, forecast
from selftrain.evaluate.statistics.intervals import standard_error
from selftrain.learn.heads.fitting import fit_head
from selftrain.learn.heads.learning_curve import HeldOutAnswers, held_out_answers
from selftrain.learn.heads.logistic import Linear, Targets
from selftrain.learn.models.calibrate import negative_log_likelihood
from selftrain.learn.models.features import feature_network
from selftrain.learn.models.kept_features import head_logits, views_of
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


def forecast_of_labels(
    network: keras.Model,
    train: Examples,
    validation: Examples,
    *,
    names: Sequence[str],
    head: Linear,
    seed: int,
) -> LabelForecast:
    """What more human labels would add to the `head` that was fitted to the features of `network`.

    The features must not be learned from these labels. Heads are fitted to parts of the human labels of `train` and
    `validation`, and asked about the rest. The gains count from the labels of `train`.
    """
    reader, own = feature_network(network), train.human
    parts = ((train, train.rows[own], train.targets[own]), (validation, validation.rows, validation.targets))
    features = np.concatenate([views_of(reader, each.pixels, rows)[0] for each, rows, _ in parts])
    labels = np.concatenate([targets.argmax(axis=1) for _, _, targets in parts])
    penalty = head.inverse_penalty
    found = held_out_answers(features, labels, classes=len(names), inverse_penalty=penalty, seed=seed)
    known = int(own.sum())
    if found is None:
        return LabelForecast(labels=known, unknown="too few human labels of a class, or too many classes, for a curve")
    needs = _needs(found, names)
    right, luck = found.right.astype(np.float64), found.luck
    return forecast(found.sizes, right, labels=known, luck=luck, classes=needs, seed=seed)


def _needs(found: HeldOutAnswers, names: Sequence[str]) -> tuple[ClassNeed, ...]:
    """For each class with labels, how many of these a head on all others recognised."""
    right = found.right[-1].mean(axis=0)
    return tuple(
        ClassNeed(name=name, labels=int(here.sum()), recall=float(right[here].mean()))
        for at, name in enumerate(names)
        if (here := found.labels == at).any()
    )
