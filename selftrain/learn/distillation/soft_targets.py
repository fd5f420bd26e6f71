"""Soft targets: a course of training towards a teacher's softened answers, and towards labels if there are any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from selftrain.learn.networks.devices import share
from selftrain.learn.training.course import Supervised


@dataclass(frozen=True)
class Softening:
    """`temperature` softens both models' logits; `label_weight` (0-1) is the labels' part of the loss."""

    temperature: float
    label_weight: float


def distillation_loss(
    logits: keras.KerasTensor, soft: keras.KerasTensor, labels: keras.KerasTensor, softening: Softening
) -> keras.KerasTensor:
    """The loss of Hinton et al. 2015 (arXiv:1503.02531, section 2), averaged over a batch; all tensors (n, classes).

    One term is the cross-entropy with the teacher's probabilities `soft` at the temperature. It is multiplied by the
    square of the temperature, so that its gradients keep their size. The other term is the cross-entropy with `labels`
    at temperature 1. A row of labels is one-hot, or all 0 for an image without a label.
    """
    warm = softening.temperature
    towards_teacher = -ops.sum(soft * ops.log_softmax(logits / warm), axis=-1) * warm**2
    towards_labels = -ops.sum(labels * ops.log_softmax(logits), axis=-1)
    weight = softening.label_weight
    return ops.mean((1 - weight) * towards_teacher + weight * towards_labels)


def both_targets(soft: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Targets (n, 2 * classes) of the teacher's probabilities and the labels (n, classes), as `Examples` hold them."""
    return np.concatenate([soft, labels], axis=1)


@dataclass(frozen=True)
class Distilling(Supervised):
    """A course on augmented images and their `both_targets`."""

    softening: Softening

    @property
    def digest(self) -> str:
        """A digest of the examples, their order and the softening."""
        return f"{super().digest} {self.softening}"

    def trainer(self, model: keras.Model) -> keras.Model:
        """A network from images to logits, with the distillation loss."""
        plain = super().trainer(model)
        return DistillingTrainer(plain.input, plain.output, self.softening)


class DistillingTrainer(keras.Model):  # type: ignore[misc]  # keras ships no types
    """A network whose targets are `both_targets`."""

    def __init__(self, images: keras.KerasTensor, logits: keras.KerasTensor, softening: Softening) -> None:
        super().__init__(images, logits, name="distilling")
        self.softening = softening

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> keras.KerasTensor:
        """`distillation_loss` of the batch."""
        soft, labels = ops.split(ops.cast(y, "float32"), 2, axis=-1)
        return share(distillation_loss(ops.cast(y_pred, "float32"), soft, labels, self.softening))
