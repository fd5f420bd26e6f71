"""Observation: a model's features and answers of stored images, asked once and summarised batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selftrain.progress import Progress, silent
from selftrain.retraining.drift.summaries import Reference, Summary, describe, refer, space_of

if TYPE_CHECKING:
    import keras

    from selftrain.data.store.pixels import Pixels

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_SPREAD_OF = 2048  # reference images that tell how far features lie apart
_BATCHES = 8  # whose features are held in memory at once
_EVEN = 32  # a batch is a multiple of it, so that `predict_logits` leaves it as it is


def reference_of(
    model: keras.Model,
    pixels: Pixels,
    rows: Int64s,
    *,
    name: str,
    temperature: float = 1.0,
    batch_size: int = 256,
    progress: Progress = silent,
) -> Reference:
    """The reference that the images `rows` of `pixels` make, as `model` sees them.

    `name` is the identity of `model`, and `temperature` its contract's. The first pass reads up to 2,048 images, evenly
    spread over `rows`, and the second pass all of them. Raises PredictionError as `describe` and `space_of` do, and
    BackboneError for a model without features.
    """
    sample = rows[:: -(-len(rows) // _SPREAD_OF)] if len(rows) else rows
    seen = _answers(model, pixels, sample, temperature=temperature, batch_size=batch_size, progress=silent)
    space = space_of((features for features, _ in seen), model=name, classes=int(model.output_shape[-1]))
    every = _answers(model, pixels, rows, temperature=temperature, batch_size=batch_size, progress=progress)
    return refer(every, space)


def window_of(
    model: keras.Model,
    pixels: Pixels,
    rows: Int64s,
    reference: Reference,
    *,
    temperature: float = 1.0,
    batch_size: int = 256,
    progress: Progress = silent,
) -> Summary:
    """The summary of the new images `rows` of `pixels`, as the model of `reference` sees them.

    Features and answers come from one pass of `model`, and memory does not grow with `rows`. Raises as `reference_of`.
    """
    seen = _answers(model, pixels, rows, temperature=temperature, batch_size=batch_size, progress=progress)
    return describe(seen, reference)


def _answers(
    model: keras.Model, pixels: Pixels, rows: Int64s, *, temperature: float, batch_size: int, progress: Progress
) -> Iterator[tuple[Floats, Floats]]:
    """Features (k, width) and calibrated probabilities (k, classes) of `rows`, a few batches at a time."""
    from selftrain.learn.models.calibrate import softmax
    from selftrain.learn.models.features import with_features
    from selftrain.learn.models.predict import predict_logits

    network, classes = with_features(model), int(model.output_shape[-1])
    size = min(-(-batch_size // _EVEN), max(-(-len(rows) // _EVEN), 1)) * _EVEN
    for start in range(0, len(rows), size * _BATCHES):
        chunk = rows[start : start + size * _BATCHES]
        filled = np.resize(chunk, -(-len(chunk) // size) * size)  # one shape: the network is compiled once
        both = predict_logits(network, pixels, filled, batch_size=size)[: len(chunk)]
        yield both[:, :-classes], softmax(both[:, -classes:], temperature)
        progress(start + len(chunk), len(rows))
