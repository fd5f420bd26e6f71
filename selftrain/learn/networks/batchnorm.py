"""Batch normalisation's statistics, measured again on training images for averaged weights.

A network that is built from scratch is never validated or saved with running averages. So their momentum, .9 or .99,
need not fit the number of training steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
from numpy.typing import NDArray

from selftrain.learn.networks import variables


def layers_of_type(model: keras.Model, kind: type[keras.layers.Layer]) -> list[keras.layers.Layer]:
    """Every layer of `kind` at any depth; `model.layers` lists one level only."""
    layers = []
    for layer in model.layers:
        if isinstance(layer, kind):
            layers.append(layer)
        elif isinstance(layer, keras.Model):
            layers.extend(layers_of_type(layer, kind))
    return layers


class Statistics:
    """Replaces the moving mean and variance of a model's trainable batch-norm layers by exact ones.

    Moving averages lag behind in a short training, and do not fit averaged weights. Here a compiled forward pass in
    training mode with momentum 0 leaves each batch's own statistics in the layers. They are pooled over the batches
    (law of total variance). Dropout and stochastic depth are off meanwhile, as in prediction.
    """

    def __init__(self, model: keras.Model) -> None:
        self._norms = [n for n in layers_of_type(model, keras.layers.BatchNormalization) if n.trainable]
        self._dropouts = layers_of_type(model, keras.layers.Dropout)
        image = keras.Input(model.input_shape[1:])
        self._network = keras.Model(image, _InTrainingMode(model)(image))
        self._network.compile(jit_compile=False)

    def measure(self, batches: Iterable[NDArray[np.uint8]]) -> None:
        """Set the statistics from `batches` of images (b, s, s, 3), 0-255, all of one size."""
        if not self._norms:
            return
        means, variances = [], []
        with self._measuring():
            for images in batches:
                self._network.predict_on_batch(images)
                means.append(variables.read(norm.moving_mean for norm in self._norms))
                variances.append(variables.read(norm.moving_variance for norm in self._norms))
        for i, norm in enumerate(self._norms):
            mean = np.stack([batch[i] for batch in means])
            variance = np.stack([batch[i] for batch in variances])
            norm.moving_mean.assign(mean.mean(axis=0))
            norm.moving_variance.assign(variance.mean(axis=0) + mean.var(axis=0))

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        """Change the layers' settings for a measurement; the compiled function reads them when it is traced."""
        momenta, rates = [norm.momentum for norm in self._norms], [dropout.rate for dropout in self._dropouts]
        for norm in self._norms:
            norm.momentum = 0.0
        for dropout in self._dropouts:
            dropout.rate = 0.0
        try:
            yield
        finally:
            for norm, momentum in zip(self._norms, momenta, strict=True):
                norm.momentum = momentum
            for dropout, rate in zip(self._dropouts, rates, strict=True):
                dropout.rate = rate


class _InTrainingMode(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """A model that is always called in training mode."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self.model = model

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        return self.model(images, training=True)
