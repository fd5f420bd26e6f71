"""Mixed precision: a network that is trained in bfloat16, its weights and its answers in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from selftrain.config import Precision
from selftrain.errors import ConfigError


def at_precision(model: keras.Model, precision: Precision) -> keras.Model:
    """`model` itself for "float32"; else a copy with the same weights, whose layers compute in bfloat16.

    The copy's weights and its last layer stay in float32, and as bfloat16 has float32's range, no loss is scaled
    (arXiv:1905.12322, section 3). Its weights are in the order of the model's: what the copy learns is written back as
    it is, and a model that is saved knows nothing of the precision in which it was trained.

    Raises ConfigError for a model of a class of its own, whose layers cannot be told apart.
    """
    if precision == "float32":
        return model
    last = model.layers[-1]

    def lowered(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings = layer.get_config()
        return type(layer).from_config(settings if layer is last else {**settings, "dtype": precision})

    try:
        with _policy(precision):  # of the layers that a layer makes
            copy = keras.models.clone_model(model, clone_function=lowered, recursive=True)
    except ValueError as error:
        raise ConfigError(
            f"{model.name} cannot be trained in {precision}: it is no Functional or Sequential model; "
            f"set precision to float32"
        ) from error
    copy.set_weights(model.get_weights())
    return copy


@contextmanager
def _policy(precision: Precision) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
