"""tf.data: labelled images as a tf.data.Dataset; the only module of this room that imports TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.autolabeling.training_data import Example, LabeledImages

if TYPE_CHECKING:
    import tensorflow as tf

READ_AT_ONCE = 256


def tf_dataset(examples: LabeledImages, *, seed: int | None) -> tf.data.Dataset:
    """A data set of single `examples`, (x, y) or (x, y, w), with a known length.

    Each pass has another order, drawn from `seed`. None: people's labels first.
    """
    start_keras()
    import tensorflow as tf

    first = examples.gather(np.arange(0))
    signature = tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in first)
    passes = count()

    def batches() -> Iterator[Example]:
        return examples.batches(READ_AT_ONCE, seed=None if seed is None else seed + next(passes))

    batched = tf.data.Dataset.from_generator(batches, output_signature=signature)
    single = batched.prefetch(2).unbatch()
    return single.apply(tf.data.experimental.assert_cardinality(len(examples)))
