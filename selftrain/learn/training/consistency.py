"""Consistency rules: which unlabelled images of a batch count, how much, and the loss between their two views.

A rule is a layer. It takes the logits (n, classes) of weakly and of strongly augmented images, in the same order, and
returns their loss. Its estimates of the model are weights that are not trained, so that a checkpoint keeps them.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, assert_never

import keras
import numpy as np
from keras import ops

from selftrain.config import Consistency, Method

Tensor: TypeAlias = keras.KerasTensor
_LEAST_SHARE = 1e-6  # what the authors of SoftMatch add to a class's mean probability before they divide by it
_TINY = float(np.finfo(np.float32).tiny)


class ConsistencyLoss(Protocol):
    """The layer in which FixMatch, FreeMatch and SoftMatch differ."""

    def __call__(self, weak: Tensor, strong: Tensor) -> Tensor:
        """The weighted loss of a batch, a scalar; the batch first updates the rule's estimates."""
        ...


def consistency_loss(method: Method, settings: Consistency, *, classes: int) -> ConsistencyLoss:
    """The rule that `method` names. Raises ValueError for noisy_student, which does not have one."""
    match method:
        case "fixmatch":
            return FixMatch(settings.threshold, weight=settings.weight)
        case "freematch":
            return FreeMatch(classes, momentum=settings.momentum, fairness=settings.fairness, weight=settings.weight)
        case "softmatch":
            return SoftMatch(classes, momentum=settings.momentum, n_sigma=settings.n_sigma, weight=settings.weight)
        case "noisy_student":
            raise ValueError(
                "noisy_student trains in rounds, on pseudo-labels made before; it does not use a rule in training"
            )
        case never:
            assert_never(never)


def hard_loss(strong: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean over all images of `weights` (n,) times the cross-entropy of `strong` (n, classes) against `labels` (n,)."""
    wanted = ops.one_hot(labels, strong.shape[-1], dtype=strong.dtype)
    return ops.mean(weights * -ops.sum(wanted * ops.log_softmax(strong), axis=-1))


class FixMatch(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Counts images whose weak view reaches one threshold of confidence (arXiv:2001.07685, eq. 4)."""

    def __init__(self, threshold: float, *, weight: float = 1.0) -> None:
        super().__init__(name="fixmatch")
        self.threshold, self.weight = threshold, weight

    def call(self, weak: Tensor, strong: Tensor) -> Tensor:
        """As `ConsistencyLoss` says."""
        probs = _probabilities(weak, self.variable_dtype)
        counts = ops.cast(ops.max(probs, axis=-1) >= self.threshold, self.variable_dtype)
        return self.weight * hard_loss(strong, ops.argmax(probs, axis=-1), counts)


class FreeMatch(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Uses thresholds per class that follow the model's own confidence, and a term for fairness (arXiv:2205.07246).

    `level` is tau_t (eq. 5), `class_means` (classes,) p~_t (eq. 6), `histogram` (classes,) h~_t of the predictions.
    `weight` and `fairness` are w_u and w_f of eq. 12: neither scales the other's term.
    """

    def __init__(self, classes: int, *, momentum: float, fairness: float, weight: float = 1.0) -> None:
        super().__init__(name="freematch")
        self.classes, self.momentum, self.fairness, self.weight = classes, momentum, fairness, weight
        uniform = keras.initializers.Constant(1 / classes)
        self.level = self.add_weight(shape=(), initializer=uniform, trainable=False, name="level")
        self.class_means = self.add_weight(shape=(classes,), initializer=uniform, trainable=False, name="class_means")
        self.histogram = self.add_weight(shape=(classes,), initializer=uniform, trainable=False, name="histogram")

    def call(self, weak: Tensor, strong: Tensor) -> Tensor:
        """As `ConsistencyLoss` says: `weight` times eq. 8, plus `fairness` times eq. 11."""
        probs = _probabilities(weak, self.variable_dtype)
        confidence, labels = ops.max(probs, axis=-1), ops.argmax(probs, axis=-1)
        predicted = ops.one_hot(labels, self.classes, dtype=self.variable_dtype)
        _follow(self.level, ops.mean(confidence), self.momentum)
        _follow(self.class_means, ops.mean(probs, axis=0), self.momentum)
        _follow(self.histogram, ops.mean(predicted, axis=0), self.momentum)
        least = ops.sum(predicted * self.thresholds(), axis=-1)
        counts = ops.cast(confidence >= least, self.variable_dtype)
        return self.weight * hard_loss(strong, labels, counts) + self.fairness * self._unfairness(strong, counts)

    def thresholds(self) -> Tensor:
        """The confidence that each class needs now, (classes,): eq. 7."""
        return self.class_means / ops.max(self.class_means) * self.level

    def _unfairness(self, strong: Tensor, counts: Tensor) -> Tensor:
        """Self-adaptive fairness, eq. 9-11; 0 if no image counts.

        A class that is not predicted for any counted image adds its expected share times log 1e-12, as in the authors'
        code. No gradient flows through that number.
        """
        views = ops.softmax(strong)
        predicted = ops.one_hot(ops.argmax(ops.stop_gradient(strong), axis=-1), self.classes, dtype=self.variable_dtype)
        expected = _sum_to_one(_over(self.class_means, self.histogram))
        mean = ops.sum(counts[:, None] * views, axis=0)
        batch = _sum_to_one(_over(mean, ops.sum(counts[:, None] * predicted, axis=0)))
        negative_entropy = ops.sum(expected * ops.log(batch + 1e-12))
        return ops.where(ops.sum(counts) > 0, negative_entropy, 0.0)


class SoftMatch(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Weights every image by a truncated Gaussian of its confidence (arXiv:2301.10921, eq. 9).

    The confidence comes from probabilities aligned to a uniform share of the classes (eq. 8); the label does not.
    `mean` and `variance` are the Gaussian's (eq. 6 and 7), taken of aligned probabilities as in the authors' code.
    `class_means` (classes,) is the model's mean prediction.
    """

    def __init__(self, classes: int, *, momentum: float, n_sigma: float, weight: float = 1.0) -> None:
        super().__init__(name="softmatch")
        self.momentum, self.n_sigma, self.weight = momentum, n_sigma, weight
        uniform = keras.initializers.Constant(1 / classes)
        self.mean = self.add_weight(shape=(), initializer=uniform, trainable=False, name="mean")
        self.variance = self.add_weight(shape=(), initializer="ones", trainable=False, name="variance")
        self.class_means = self.add_weight(shape=(classes,), initializer=uniform, trainable=False, name="class_means")

    def call(self, weak: Tensor, strong: Tensor) -> Tensor:
        """As `ConsistencyLoss` says."""
        probs = _probabilities(weak, self.variable_dtype)
        return self.weight * hard_loss(strong, ops.argmax(probs, axis=-1), self.weights_after(probs))

    def weights_after(self, probs: Tensor) -> Tensor:
        """How much each image counts, (n,) in 0-1, once the batch's `probs` (n, classes) have updated the estimates."""
        _follow(self.class_means, ops.mean(probs, axis=0), self.momentum)
        aligned = probs / (self.class_means + _LEAST_SHARE)
        aligned = aligned / ops.sum(aligned, axis=-1, keepdims=True)
        confidence = ops.max(aligned, axis=-1)
        n = ops.cast(ops.shape(confidence)[0], self.variable_dtype)
        _follow(self.mean, ops.mean(confidence), self.momentum)
        _follow(self.variance, ops.var(confidence) * n / ops.maximum(n - 1, 1.0), self.momentum)
        below = ops.minimum(confidence - self.mean, 0.0)
        # At variance 0, images at the mean count and those below do not, as in `adaptive.gaussian_weights`.
        return ops.exp(-ops.square(below) * self.n_sigma**2 / ops.maximum(2 * self.variance, _TINY))


def _probabilities(logits: Tensor, dtype: str) -> Tensor:
    """The probabilities of `logits` as targets: no gradient flows through them."""
    return ops.stop_gradient(ops.softmax(ops.cast(logits, dtype)))


def _follow(average: Any, batch: Tensor, momentum: float) -> None:
    average.assign(momentum * average + (1 - momentum) * batch)


def _over(values: Tensor, counts: Tensor) -> Tensor:
    """`values` over `counts`; 0 where the count is 0."""
    return ops.where(counts > 0, values / ops.maximum(counts, 1e-12), 0.0)


def _sum_to_one(values: Tensor) -> Tensor:
    return values / ops.maximum(ops.sum(values), 1e-12)


class ConsistencyTrainer(keras.Model):  # type: ignore[misc]  # keras ships no types
    """A network from (labelled, unlabelled) images to the logits of the labelled ones; the others add their loss.

    One forward pass sees the labelled images and both views of the unlabelled ones, so that they share their batch's
    statistics. The rule's loss, with FreeMatch's fairness, rises from 0 over `ramp_steps`. After `last_step` it is 0,
    and only the labels' loss counts.
    """

    def __init__(
        self,
        network: keras.Model,
        rule: ConsistencyLoss,
        *,
        weak: keras.layers.Layer,
        strong: keras.layers.Layer,
        ramp_steps: int,
        last_step: int,
    ) -> None:
        super().__init__(name="consistency")
        self.network, self.rule, self.weak, self.strong = network, rule, weak, strong
        self.ramp_steps, self.last_step = ramp_steps, last_step
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")

    def call(self, inputs: tuple[Any, Any], training: bool = False) -> Tensor:
        """Labelled (b, s, s, 3) and unlabelled images (mu * b, s, s, 3), uint8, to logits (b, classes)."""
        labeled, unlabeled = inputs
        if not training:
            return self.network(labeled, training=False)
        weak = self.weak(ops.concatenate([labeled, unlabeled], axis=0), training=True)
        strong = self.strong(unlabeled, training=True)
        logits = ops.cast(self.network(ops.concatenate([weak, strong], axis=0), training=True), "float32")
        labels, views = ops.shape(labeled)[0], ops.shape(unlabeled)[0]
        self.steps.assign_add(1.0)
        ramp = ops.minimum(self.steps / self.ramp_steps, 1.0) if self.ramp_steps else 1.0
        loss = self.rule(logits[labels : labels + views], logits[labels + views :])
        counts = ops.cast(self.steps <= self.last_step, "float32")
        self.add_loss(counts * ramp * loss)
        return logits[:labels]
