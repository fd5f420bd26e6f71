"""The feed: batches on their way into Keras's `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    import grain


def feed(data: grain.IterDataset[Any]) -> object:
    """`data` for Keras's `fit`: under TensorFlow the same batches, from a tf.data pipeline without autotuning.

    The thread that tunes a pipeline sleeps twice as long each time (10 ms, 20 ms, 40 ms, ...). The call that ends it is
    often lost (TensorFlow 2.21). `fit` then returns only when the thread wakes again, which can double its time. Tuning
    would gain nothing, because Grain gathers ahead.
    """
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
