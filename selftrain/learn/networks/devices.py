"""Devices: a training spread over several of a machine's GPUs, each with a part of every batch.

JAX shards the batch of one program (keras.distribution). Under TensorFlow, a mirrored strategy runs the program on each
device; keras.distribution does not train there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import keras

from selftrain.config import Recipe
from selftrain.learn.networks.batchnorm import layers_of_type
from selftrain.learn.networks.device import jit

Devices = int | Literal["all"]
_APART = 1_000_003  # between the seeds of two devices


def count_for(wanted: Devices, available: int, *, images: int) -> int:
    """How many devices share batches of `images`: the most up to `wanted` and `available` that divide it.

    >>> [count_for("all", 8, images=images) for images in (64, 30, 7, 3)]
    [8, 6, 7, 3]
    """
    most = available if wanted == "all" else min(wanted, available)
    return next(count for count in range(min(most, images), 0, -1) if images % count == 0)


def spread(wanted: Devices, recipe: Recipe, *, parts: int = 1) -> Spread:
    """The devices on which a training by `recipe` runs, with each batch in `parts` one after the other.

    An in-training method stays on one device under TensorFlow: its estimates take a batch as a whole.
    """
    if wanted == 1:
        return Spread(("",))
    found = keras.distribution.list_devices()
    whole = recipe.in_training and keras.backend.backend() != "jax"
    supported = keras.backend.backend() in ("jax", "tensorflow") and not whole
    count = count_for(wanted, len(found), images=recipe.batch_size // parts) if supported else 1
    return Spread(tuple(found[:count]), f", on {count} of {len(found)} devices" if len(found) > 1 else "")


@dataclass(frozen=True)
class Spread:
    """The devices of one training, by Keras's names, and a `note` for people where the machine has several."""

    names: tuple[str, ...]
    note: str = ""

    @property
    def alone(self) -> bool:
        """Whether the training runs on one device, as it does without this module."""
        return len(self.names) == 1

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is built in this block has its variables on all devices, and what is trained in it uses them."""
        with self._scope:
            yield

    @property
    def _scope(self) -> AbstractContextManager[Any]:
        if self.alone:
            return nullcontext()
        scope: AbstractContextManager[Any] = self._strategy.scope()
        return scope

    @cached_property
    def _strategy(self) -> Any:
        if keras.backend.backend() == "jax":
            return keras.distribution.DataParallel(devices=list(self.names))
        import tensorflow as tf

        return tf.distribute.MirroredStrategy([f"/{name}" for name in self.names])

    @property
    def jit(self) -> bool | str:
        """Keras's `jit_compile`: off for a mirrored strategy, because XLA compiles for one device."""
        return jit() if self.alone or keras.backend.backend() == "jax" else False

    def share_statistics(self, model: keras.Model) -> None:
        """Let batch norm in `model` take its statistics from the whole batch, not from a device's part of it."""
        if not self.alone and keras.backend.backend() == "tensorflow":
            for norm in layers_of_type(model, keras.layers.BatchNormalization):
                norm.synchronized = True

    def own_seeds(self, trainer: keras.Model) -> None:
        """Give each device random numbers of its own; the first one's are those of the checkpoint."""
        if self.alone or keras.backend.backend() != "tensorflow":
            return
        for variable in trainer.variables:
            if variable.name.endswith("seed_generator_state"):
                first, *others = variable.value.values
                seed, drawn = (int(word) for word in first.numpy())
                for index, other in enumerate(others, 1):
                    other.assign([(seed + index * _APART) % 2**31, drawn])


class _Part(keras.losses.Loss):  # type: ignore[misc]  # keras ships no types
    """A loss that is computed already. Keras divides what it returns by the number of devices that add it up."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return y_pred


def share(loss: Any) -> Any:
    """`loss`, a mean over a device's images, as its share of the mean over the batch. Keras's own losses do so."""
    as_list = keras.ops.reshape(loss, (1,))  # Keras leaves a scalar as it is
    return _Part(name="part")(as_list, as_list)
