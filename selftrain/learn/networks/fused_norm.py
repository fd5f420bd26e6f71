"""Batch norm in one operation: TensorFlow's fused one, which Keras does not use.

Keras writes batch norm as some twenty operations, forward and back, and each goes through all of the values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def gains(layer: keras.layers.BatchNormalization) -> bool:
    """Whether `layer` is what the fused operation computes."""
    whole = layer.center and layer.scale and not layer.synchronized
    fits = layer.axis in (-1, 3) and layer.compute_dtype == "float32"
    return bool(whole and fits and layer.trainable and layer.input_spec.ndim == 4)


def normalisation(layer: keras.layers.BatchNormalization) -> Callable[..., Any]:
    """What `layer` computes as a function of its images and of whether it is `training`."""
    import tensorflow as tf

    def normalised(images: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training or mask is not None:
            return type(layer).call(layer, images, training=training, mask=mask)
        values = tf.cast(tf.size(images) / tf.shape(images)[-1], "float32")
        scale, offset = map(keras.ops.convert_to_tensor, (layer.gamma, layer.beta))
        answer = tf.raw_ops.FusedBatchNormV3(  # tf.nn's form of it raises a small epsilon
            x=images, scale=scale, offset=offset, mean=[], variance=[], epsilon=layer.epsilon, is_training=True
        )
        found, mean, variance = answer.y, answer.batch_mean, answer.batch_variance
        population = variance * (tf.maximum(values - 1, 1) / values)  # the operation gives the sample's
        for moving, measured in ((layer.moving_mean, mean), (layer.moving_variance, population)):
            moving.assign(moving * layer.momentum + measured * (1 - layer.momentum))
        return found

    return normalised
