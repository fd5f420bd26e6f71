"""Quick layers: layers that compute the same in training, up to rounding, in operations that suit a processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import keras

from selftrain.learn.networks import depthwise, fused_norm
from selftrain.learn.networks.batchnorm import layers_of_type

_CALL: Final = "call"


@contextmanager
def quick_layers(model: keras.Model) -> Iterator[None]:
    """Let layers of `model` compute what they compute faster in the block, where TensorFlow trains on a processor.

    A step that is traced in the block keeps what it was traced with. The layers themselves stay as they are: what is
    saved or copied of `model` knows nothing of it.
    """
    chosen = list(_chosen(model)) if _on_processor() else []
    for layer, call in chosen:
        object.__setattr__(layer, _CALL, call)  # Keras would try to track it
    try:
        yield
    finally:
        for layer, _ in chosen:
            object.__delattr__(layer, _CALL)


def _on_processor() -> bool:
    return keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")


def _chosen(model: keras.Model) -> Iterator[tuple[keras.layers.Layer, Callable[..., Any]]]:
    """Each layer that can be faster, once, and its other call."""
    convolutions, norms = (
        {id(each): each for each in layers_of_type(model, kind)}.values()
        for kind in (keras.layers.DepthwiseConv2D, keras.layers.BatchNormalization)
    )
    yield from ((each, depthwise.convolution(each)) for each in convolutions if depthwise.gains(each))
    yield from ((each, fused_norm.normalisation(each)) for each in norms if fused_norm.gains(each))
