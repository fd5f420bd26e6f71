"""Batching: images of requests that wait at the same time are answered together.

The waiting room is TensorFlow's own, that of TensorFlow Serving. There is one per loaded version, so two versions never
share a batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from selftrain.adapters.serving.frozen import frozen
from selftrain.errors import OverloadedError
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.contract import Contract

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Graph = Callable[["tf.Tensor"], "tf.Tensor"]
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]

LARGEST_ON_CPU: Final = 16  # larger batches take as long per image, and their first image waits longer
LARGEST_ON_GPU: Final = 64
BATCHES_WAITING: Final = 64
WAIT_US: Final = 0  # a free model answers at once; while it is busy, the next batch gathers by itself
_loads = itertools.count(1)


class BatchedModel:
    """A model that many threads may ask at once. It is compiled for each batch size before the first request."""

    def __init__(self, model: keras.Model, contract: Contract) -> None:
        import tensorflow as tf

        self.contract = contract
        self.largest = LARGEST_ON_GPU if tf.config.list_physical_devices("GPU") else LARGEST_ON_CPU
        side = contract.image_size
        images = tf.TensorSpec((None, side, side, 3), tf.uint8)
        network = tf.function(frozen(model), input_signature=[images], autograph=False).get_concrete_function()
        sizes = [1 << power for power in range(self.largest.bit_length())]
        for size in sizes:
            network(tf.zeros((size, side, side, 3), tf.uint8))
        self._ask = _waiting_room(network, images, sizes)
        self.probabilities(np.zeros((1, side, side, 3), np.uint8))

    def probabilities(self, images: Pixels) -> Floats:
        """Calibrated probabilities (n, classes) of at most `largest` uint8 images (n, side, side, 3).

        Raises OverloadedError when too many images wait already.
        """
        import tensorflow as tf

        try:
            logits = self._ask(tf.constant(images))
        except tf.errors.UnavailableError as error:
            raise OverloadedError("too many images wait for the model; send this request again later") from error
        return softmax(logits.numpy(), self.contract.temperature)


def _waiting_room(network: Graph, images: tf.TensorSpec, sizes: list[int]) -> Graph:
    """`network` for many callers at a time: what they ask together is answered in batches of one of `sizes`."""
    import tensorflow as tf

    batched = tf.nondifferentiable_batch_function(
        num_batch_threads=1,
        max_batch_size=sizes[-1],
        batch_timeout_micros=WAIT_US,
        allowed_batch_sizes=sizes,
        max_enqueued_batches=BATCHES_WAITING,
        autograph=False,
    )(network)
    name = f"selftrain_version_{next(_loads)}"  # TensorFlow batches calls of equal names together, whatever they ask

    def ask(batch: tf.Tensor) -> tf.Tensor:
        with tf.name_scope(name):
            return batched(batch)

    compiled: Graph = tf.function(ask, input_signature=[images], autograph=False).get_concrete_function()
    return compiled
