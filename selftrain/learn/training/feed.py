"""The feed: batches on their way into Keras's `fit`."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grain


def feed(data: grain.IterDataset[Any], *, parts: int = 1) -> object:
    """`data`, each batch in `parts`, for Keras's `fit`: under TensorFlow from a tf.data pipeline without autotuning.

    The thread that tunes a pipeline sleeps twice as long each time (10 ms, 20 ms, 40 ms, ...). The call that ends it is
    often lost (TensorFlow 2.21). `fit` then returns only when the thread wakes again, which can double its time. Tuning
    would gain nothing, because Grain gathers ahead.
    """
    if parts > 1:
        data = in_parts(data, parts)
    if keras.backend.backend() != "tensorflow":
        return data
    try:
        from keras.src.trainers.data_adapters.grain_dataset_adapter import GrainDatasetAdapter
    except ImportError:  # another version of Keras keeps it elsewhere
        return data
    dataset = GrainDatasetAdapter(data).get_tf_dataset()
    options = type(dataset.options())()
    options.autotune.enabled = False
    return dataset.with_options(options)


def in_parts(data: grain.IterDataset[Any], parts: int) -> grain.IterDataset[Any]:
    """`data` with each batch split into `parts` of one size, which must divide it.

    A part takes every `parts`-th image, so that labels and pseudo-labels have the same shares in each.
    """
    from grain import experimental

    class Split(experimental.FlatMapTransform):  # type: ignore[misc]  # made here: grain takes a second to load
        max_fan_out = parts

        def flat_map(self, batch: Any) -> Sequence[Any]:
            return [keras.tree.map_structure(itemgetter(slice(i, None, parts)), batch) for i in range(parts)]

    return experimental.FlatMapIterDataset(data, Split())
