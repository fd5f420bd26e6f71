"""Copies of a network with its weights, in the same precision or in bfloat16 (mixed precision)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from numpy.typing import NDArray

from selftrain.config import Precision
from selftrain.learn.networks import variables
from selftrain.learn.networks.batchnorm import layers_of_type


def copied(model: keras.Model) -> keras.Model:
    """Another model of the same layers, with the weights of `model`."""
    copy = keras.models.clone_model(model)
    write_weights(copy, variables.read(model.weights))
    return copy


def at_precision(model: keras.Model, precision: Precision) -> keras.Model:
    """`model` itself for "float32"; else a copy with its weights, whose layers compute in bfloat16.

    The copy's weights and its last layer stay in float32. The loss is not scaled, because bfloat16 has float32's range
    (arXiv:1905.12322, section 3). The copy has its weights in the model's order, so what it learns can be written back
    directly. A saved model does not depend on the precision in which it was trained.
    """
    if precision == "float32":
        return model
    last = model
    while isinstance(last, keras.Model):
        last = last.layers[-1]

    def lowered(layer: keras.Operation) -> keras.Operation:
        settings = layer.get_config()
        lower = isinstance(layer, keras.layers.Layer) and layer is not last  # bare operations keep their input's type
        return type(layer).from_config({**settings, "dtype": precision} if lower else settings)

    with _policy(precision):  # for the layers that a layer creates itself
        copy = keras.models.clone_model(model, clone_function=lowered, recursive=True)
    write_weights(copy, variables.read(model.weights))
    return copy


def write_weights(model: keras.Model, values: Sequence[NDArray[Any]]) -> None:
    """Assign `values` to the weights of `model`, and update the constants of its Normalization layers.

    Raises ValueError if the counts or a shape differ.
    """
    variables.write(model.weights, values)
    for layer in layers_of_type(model, keras.layers.Normalization):
        layer.finalize_state()


@contextmanager
def _policy(precision: Precision) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
