"""Depthwise convolutions: a gradient for large kernels that TensorFlow computes several times faster on a processor.

TensorFlow on a processor gives this gradient to oneDNN, which takes 2 to 5 times as long as TensorFlow's own code for
5 x 5 kernels. oneDNN leaves explicit padding alone, so the same padding is written in that form. The gradients are the
same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import keras

SMALLEST: Final = 5  # pixels; oneDNN is as fast for smaller kernels


def gains(layer: keras.layers.DepthwiseConv2D) -> bool:
    """Whether `layer` is a bare convolution with a kernel that is large enough."""
    bare = not layer.use_bias and layer.activation is keras.activations.linear
    plain = layer.data_format == "channels_last" and set(layer.dilation_rate) == {1} and len(set(layer.strides)) == 1
    return bare and plain and layer.compute_dtype == "float32" and min(layer.kernel_size) >= SMALLEST


def convolution(layer: keras.layers.DepthwiseConv2D) -> Callable[[Any], Any]:
    """What `layer` computes as a function of its images, with the other gradient."""
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
