"""Depthwise convolutions: a gradient for large kernels that TensorFlow computes several times faster on a processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import keras

from selftrain.learn.networks.batchnorm import layers_of_type

SMALLEST: Final = 5  # pixels; oneDNN is as fast for smaller kernels
_CALL: Final = "call"


@contextmanager
def quick_gradients(model: keras.Model) -> Iterator[None]:
    """Let the depthwise layers of `model` compute their kernels' gradients faster, in the block, where that helps.

    TensorFlow on a processor gives this gradient to oneDNN, which takes 2 to 5 times as long as TensorFlow's own code
    for 5 x 5 kernels. oneDNN leaves explicit padding alone, so the same padding is written in that form. The gradients
    are the same up to rounding. A step that is traced in the block keeps what it was traced with.
    """
    layers = [layer for layer in layers_of_type(model, keras.layers.DepthwiseConv2D) if _gains(layer)]
    chosen = layers if _on_processor() else []
    for layer in chosen:
        object.__setattr__(layer, _CALL, _convolution(layer))  # Keras would try to track it
    try:
        yield
    finally:
        for layer in chosen:
            object.__delattr__(layer, _CALL)


def _on_processor() -> bool:
    return keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")


def _gains(layer: keras.layers.DepthwiseConv2D) -> bool:
    """Whether `layer` is a bare convolution with a kernel that is large enough."""
    bare = not layer.use_bias and layer.activation is keras.activations.linear
    plain = layer.data_format == "channels_last" and set(layer.dilation_rate) == {1} and len(set(layer.strides)) == 1
    return bare and plain and layer.compute_dtype == "float32" and min(layer.kernel_size) >= SMALLEST


def _convolution(layer: keras.layers.DepthwiseConv2D) -> Callable[[Any], Any]:
    """What `layer` computes, with the other gradient."""
    import tensorflow as tf

    strides, padding = (1, *layer.strides, 1), layer.padding.upper()

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # tensorflow ships no types
    def convolved(images: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            of_images = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(images), filter=kernel, out_backprop=upstream, strides=strides, padding=padding
            )
            of_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=images,
                filter_sizes=kernel.shape.as_list(),
                out_backprop=upstream,
                strides=strides,
                padding="EXPLICIT",
                explicit_paddings=_paddings(layer, images.shape),
            )
            return of_images, of_kernel

        return tf.nn.depthwise_conv2d(images, kernel, strides, padding), gradients

    return lambda images: convolved(images, keras.ops.convert_to_tensor(layer.kernel))


def _paddings(layer: keras.layers.DepthwiseConv2D, shape: Any) -> list[int]:
    """The zeros before and after images of `shape` (n, height, width, channels) in each dimension, as one list."""
    if layer.padding == "valid":
        return [0] * 8
    pairs = [same_padding(side, k, s) for side, k, s in zip(shape[1:3], layer.kernel_size, layer.strides, strict=True)]
    return [0, 0, *pairs[0], *pairs[1], 0, 0]


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """The zeros that "same" padding puts before and after `side` pixels.

    >>> [same_padding(8, 5, stride) for stride in (1, 2)]
    [(2, 2), (1, 2)]
    """
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2
