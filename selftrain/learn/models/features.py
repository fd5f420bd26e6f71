"""Features: the vector that a classifier computes for an image before its last layer names a class."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from selftrain.data.store.pixels import Pixels
from selftrain.errors import BackboneError
from selftrain.learn.models.predict import predict_logits
from selftrain.progress import Progress, silent


def features(
    model: keras.Model,
    pixels: Pixels,
    rows: NDArray[np.int64],
    *,
    batch_size: int = 256,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """The features float32 (n, d) of the uint8 images `rows` (n,) of `pixels`, in batches.

    `model` is any classifier that `selftrain.learn.models.loading` loads. The features are those of `feature_network`.
    To read features several times from one model, build that network once. Raises BackboneError as it does.
    """
    return predict_logits(feature_network(model), pixels, rows, batch_size=batch_size, progress=progress)


def feature_network(model: keras.Model) -> keras.Model:
    """A network from images (n, s, s, 3) to features (n, d): `model` without its last layer and the dropout before it.

    The last layer is the last one with a matrix of weights, at any depth of nested models. A feature map is averaged
    over its positions. An ensemble's features are those of its members side by side. The layers are shared with
    `model`. Raises BackboneError for a model without such a layer.
    """
    tensors = [_per_image(tensor) for tensor in _penultimate(model)]
    if not tensors:
        raise BackboneError(f"the model {model.name!r} has no layer with a matrix of weights, so it has no features")
    joined = tensors[0] if len(tensors) == 1 else ops.concatenate(tensors, axis=-1)
    return keras.Model(model.inputs, joined, name=f"{model.name}_features")


def with_features(model: keras.Model) -> keras.Model:
    """A network from images to features and the model's own answers, float32 (n, d + classes), side by side.

    It asks both of each image at once. Raises BackboneError as `feature_network` does.
    """
    columns = [ops.cast(tensor, "float32") for tensor in (feature_network(model).output, model.output)]
    return keras.Model(model.inputs, ops.concatenate(columns, axis=-1), name=f"{model.name}_with_features")


def _penultimate(model: keras.Model) -> list[keras.KerasTensor]:
    """What the last layers with a matrix of weights read, in the graph of `model`."""
    inputs_of_last: list[keras.KerasTensor] = []
    waiting = list(model.outputs)
    while waiting:
        layer, inputs = _origin(waiting.pop(0))
        if not _has_matrix(layer):
            waiting += inputs
        elif isinstance(layer, keras.Model):
            inputs_of_last.append(feature_network(layer)(inputs))
        else:
            inputs_of_last += [_before_dropout(tensor) for tensor in inputs]
    return inputs_of_last


def _origin(tensor: keras.KerasTensor) -> tuple[keras.Operation, list[keras.KerasTensor]]:
    """The operation that `tensor` comes from, and what that operation read."""
    operation, node, _ = tensor._keras_history
    return operation, list(operation._inbound_nodes[node].input_tensors)


def _has_matrix(layer: keras.Operation) -> bool:
    """True for a layer that mixes its inputs; a normalisation scales them one by one."""
    return any(len(weight.shape) > 1 for weight in getattr(layer, "weights", ()))


def _before_dropout(tensor: keras.KerasTensor) -> keras.KerasTensor:
    layer, inputs = _origin(tensor)
    return _before_dropout(inputs[0]) if isinstance(layer, keras.layers.Dropout) else tensor


def _per_image(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """The tensor (n, ..., d), averaged over its positions to (n, d)."""
    return tensor if len(tensor.shape) == 2 else ops.mean(tensor, axis=tuple(range(1, len(tensor.shape) - 1)))
