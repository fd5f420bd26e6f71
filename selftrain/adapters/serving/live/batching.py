"""Batching: images of requests that wait at the same time are answered together.

The waiting room is TensorFlow's own, that of TensorFlow Serving. There is one per loaded version, so two versions never
share a batch.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from selftrain.adapters.serving.frozen import frozen
from selftrain.errors import BusyError
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.contract import Contract

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]

LARGEST_BATCH: Final = 32
BATCHES_WAITING: Final = 64
WAIT_US: Final = 0  # a free model answers at once; while it is busy, the next batch gathers by itself
_SIZES: Final = tuple(1 << power for power in range(LARGEST_BATCH.bit_length()))
_loads = itertools.count(1)


class BatchedModel:
    """A model that many threads may ask at once. It is compiled for each batch size before the first request."""

    def __init__(self, model: keras.Model, contract: Contract) -> None:
        import tensorflow as tf

        self.contract = contract
        side = contract.image_size
        answer = frozen(model)
        images = tf.TensorSpec((None, side, side, 3), tf.uint8)
        network = tf.function(answer, input_signature=[images], autograph=False).get_concrete_function()
        for size in _SIZES:
            network(tf.zeros((size, side, side, 3), tf.uint8))
        self._ask = _waiting_room(network, images)
        self.probabilities(np.zeros((1, side, side, 3), np.uint8))

    def probabilities(self, images: Pixels) -> Floats:
        """Calibrated probabilities (n, classes) of uint8 images (n, side, side, 3).

        Raises BusyError when too many images wait already.
        """
        import tensorflow as tf

        try:
            logits = self._ask(tf.constant(images))
        except tf.errors.UnavailableError as error:
            raise BusyError("too many images wait for the model; send this request again later") from error
        return softmax(logits.numpy(), self.contract.temperature)


def _waiting_room(
    network: tf.types.experimental.ConcreteFunction, images: tf.TensorSpec
) -> tf.types.experimental.ConcreteFunction:
    import tensorflow as tf

    batched = tf.nondifferentiable_batch_function(
        num_batch_threads=1,
        max_batch_size=LARGEST_BATCH,
        batch_timeout_micros=WAIT_US,
        allowed_batch_sizes=list(_SIZES),
        max_enqueued_batches=BATCHES_WAITING,
        autograph=False,
    )(network)
    name = f"selftrain_version_{next(_loads)}"  # TensorFlow batches calls of equal names together, whatever they ask

    def ask(batch: tf.Tensor) -> tf.Tensor:
        with tf.name_scope(name):
            return batched(batch)

    return tf.function(ask, input_signature=[images], autograph=False).get_concrete_function()
