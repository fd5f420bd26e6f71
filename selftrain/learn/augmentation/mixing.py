"""Mixing: MixUp and CutMix of a batch, both images and targets, as one Keras layer.

`keras.layers.MixUp` draws from a gamma distribution, which XLA cannot compile under TensorFlow. `keras.layers.CutMix`
takes no alpha, and does not mix the targets by the share of pixels. Here shares come from a table of Beta quantiles.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from selftrain.learn.networks.devices import share

_QUANTILES = 4097


class Mix(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Mixes each image, and its target, with another of the batch, in a random share.

    MixUp (arXiv:1710.09412, eq. 1) blends them. CutMix (arXiv:1905.04899, eq. 1-2) pastes a box of the other image; the
    targets are mixed by the share of pixels that the box covers. Shares are drawn from Beta(alpha, alpha). An alpha of
    0 switches a method off; if both are on, each image draws one of them. The random state is a variable, so that a
    checkpoint keeps it.
    """

    def __init__(self, *, mixup: float, cutmix: float, seed: int) -> None:
        super().__init__(trainable=False, name="mix")
        self.mixup, self.cutmix = mixup, cutmix
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, targets: Any, training: bool = False) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Images (n, s, s, 3) and targets (n, classes), float32; unchanged unless `training`."""
        if not training or self.mixup == self.cutmix == 0:
            return images, targets
        n = ops.shape(images)[0]
        step = keras.random.randint((), 1, ops.maximum(n, 2), seed=self.seed_generator)
        other = (ops.arange(n, dtype="int32") + step) % n
        kept = self._kept(n, images.shape[1])
        share = ops.mean(kept, axis=(1, 2, 3))[:, None]
        return (
            kept * images + (1 - kept) * ops.take(images, other, axis=0),
            share * targets + (1 - share) * ops.take(targets, other, axis=0),
        )

    def _kept(self, n: keras.KerasTensor, size: int) -> keras.KerasTensor:
        """The share of itself that each pixel keeps, (n, s, s, 1)."""
        blended = ops.ones((1, size, size, 1)) * self._beta(n, self.mixup)[:, None, None, None] if self.mixup else None
        if not self.cutmix:
            return blended
        pasted = self._box(n, size)
        if blended is None:
            return pasted
        coin = keras.random.uniform((n, 1, 1, 1), seed=self.seed_generator) < 0.5
        return ops.where(coin, blended, pasted)

    def _box(self, n: keras.KerasTensor, size: int) -> keras.KerasTensor:
        """0 inside a box in each image, clipped at the border, and 1 outside."""
        half = size * ops.sqrt(1 - self._beta(n, self.cutmix))[:, None] / 2
        centre = keras.random.uniform((n, 2), 0, size, seed=self.seed_generator)
        at = ops.arange(size, dtype="float32")[None] + 0.5
        across, down = ops.abs(at - centre[:, :1]) < half, ops.abs(at - centre[:, 1:]) < half
        return 1 - ops.cast(ops.logical_and(down[:, :, None], across[:, None, :]), "float32")[..., None]

    def _beta(self, n: keras.KerasTensor, alpha: float) -> keras.KerasTensor:
        """(n,) draws from Beta(alpha, alpha)."""
        table = ops.convert_to_tensor(_beta_quantiles(alpha))
        place = keras.random.uniform((n,), 0, _QUANTILES - 1, seed=self.seed_generator)
        below = ops.minimum(ops.floor(place), _QUANTILES - 2)
        low, high = (ops.take(table, ops.cast(below + i, "int32")) for i in (0, 1))
        return low + (high - low) * (place - below)


def _beta_quantiles(alpha: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    from scipy.special import betaincinv

    quantiles: np.ndarray[tuple[int], np.dtype[np.float32]] = betaincinv(
        alpha, alpha, np.linspace(0, 1, _QUANTILES)
    ).astype(np.float32)
    return quantiles


class MixingTrainer(keras.Model):  # type: ignore[misc]  # keras ships no types
    """A network that mixes a batch of (images, weighted targets) and computes the loss of the result.

    A row of the targets (n, classes) is a label or a teacher's probabilities, times the image's weight. The loss of a
    mixed image is then the mix of both weighted losses.
    """

    def __init__(self, network: keras.Model, augment: keras.layers.Layer, mix: Mix) -> None:
        super().__init__(name="mixing")
        self.network, self.augment, self.mix = network, augment, mix

    def call(self, inputs: tuple[Any, Any], training: bool = False) -> keras.KerasTensor:
        """Logits and mixed targets, (n, 2, classes)."""
        images, targets = inputs
        images, targets = self.mix(self.augment(images, training=training), targets, training=training)
        return ops.stack([self.network(images, training=training), targets], axis=1)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> keras.KerasTensor:
        """Cross-entropy, mean over the batch."""
        logits, targets = y_pred[:, 0], y_pred[:, 1]
        return share(ops.mean(-ops.sum(targets * ops.log_softmax(logits), axis=-1)))
