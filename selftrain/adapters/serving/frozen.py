"""A frozen model: the network as a TensorFlow graph whose weights are constants.

TensorFlow can then fuse batch norm and activations with the convolutions before them. `benchmarks/serving.py` measures
what that gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selftrain.errors import ConfigError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

LARGEST = 1_500_000_000  # bytes of weights; a graph holds at most 2 GB with its constants


def frozen(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function for use in a `tf.function`: uint8 images (n, side, side, 3) to float32 logits (n, classes).

    It holds the weights as they are now. Those of a very large model stay variables. Raises ConfigError where Keras
    computes with another library than TensorFlow.
    """
    import keras
    import tensorflow as tf

    if keras.config.backend() != "tensorflow":
        raise ConfigError(
            f"Keras computes with {keras.config.backend()!r} here, and frozen models need TensorFlow; "
            "unset KERAS_BACKEND, or set it to tensorflow"
        )
    if sum(variable.value.dtype.size * variable.value.shape.num_elements() for variable in model.variables) > LARGEST:
        return lambda images: tf.cast(model(images, training=False), tf.float32)
    trained = [variable.numpy() for variable in model.trainable_variables]
    other = [variable.numpy() for variable in model.non_trainable_variables]

    def logits(images: tf.Tensor) -> tf.Tensor:
        constants = [[tf.constant(value) for value in values] for values in (trained, other)]
        answers, _ = model.stateless_call(*constants, images, training=False)
        return tf.cast(answers, tf.float32)

    return logits


def frozen_predictor(model: keras.Model) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    """uint8 images (n, side, side, 3) to logits (n, classes), compiled once; frozen where TensorFlow computes."""
    import keras

    if keras.config.backend() != "tensorflow":
        return lambda images: np.asarray(model.predict_on_batch(images), np.float32)
    import tensorflow as tf

    shape = (None, *model.input_shape[1:])
    network = tf.function(frozen(model), input_signature=[tf.TensorSpec(shape, tf.uint8)], autograph=False)
    return lambda images: np.asarray(network(tf.constant(images)))
