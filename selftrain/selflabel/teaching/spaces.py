"""Feature spaces of a round: their vectors for the images to label, and the answers of a head fitted in each."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from selftrain.data.manifest import Int64s
from selftrain.data.store.pixels import Pixels
from selftrain.learn.heads.logistic import Targets, fit_logistic
from selftrain.learn.models.calibrate import fit_temperature, softmax
from selftrain.learn.models.features import feature_network
from selftrain.learn.models.kept_features import views_of
from selftrain.learn.networks.backbones import build
from selftrain.selflabel.graph.propagation import Space
from selftrain.selflabel.graph.spaces import NetworkSpace
from selftrain.selflabel.graph.spreading import Floats


def columns_of(
    spaces: Mapping[NetworkSpace, Pixels], teacher: keras.Model, parts: tuple[Int64s, ...], *, flips: bool
) -> dict[str, Floats]:
    """The features (n, d) of the images in `parts`, a column for each of `spaces` that is not the teacher's own."""
    own, columns = feature_network(teacher).weights, {}
    for space, pixels in spaces.items():
        reader = feature_network(_network(space))
        if not _same_values(reader.weights, own):
            found = [np.mean(views_of(reader, pixels, rows, mirrored=flips), axis=0) for rows in parts if len(rows)]
            columns[space.column] = np.concatenate([np.empty((0, reader.output_shape[-1]), np.float32), *found])
    return columns


def _network(space: NetworkSpace) -> keras.Model:
    """A model with the published weights of `space`; its last layer is new, and not used."""
    return build(
        space.backbone,
        image_size=space.image_size,
        classes=2,
        weights=space.weights,
        reduce_strides=space.reduce_strides,
    )


def _same_values(some: list[keras.Variable], others: list[keras.Variable]) -> bool:
    return len(some) == len(others) and all(
        one.shape == other.shape and np.array_equal(*map(keras.ops.convert_to_numpy, (one, other)))
        for one, other in zip(some, others, strict=True)
    )


def fitted_space(name: str, features: Floats, labels: Int64s, held_out: Int64s, *, classes: int, fewest: int) -> Space:
    """The space `name` with the answers of logistic regression on the labelled images, the first of `features` (n, d).

    `labels` are the classes of these, `held_out` those of the images that follow. They set the temperature of the
    answers, if there are at least `fewest`.
    """
    count = len(labels)
    targets = Targets(np.eye(classes, dtype=np.float32)[labels], np.ones(count, np.float32), np.ones(count, np.bool_))
    logits = fit_logistic(features[:count], targets, seed=0).logits(features[count:]).astype(np.float32)
    held = len(held_out)
    temperature = fit_temperature(logits[:held], held_out) if held >= fewest else 1.0
    return Space(name, features, softmax(logits, temperature))
