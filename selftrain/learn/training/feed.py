"""The feed: batches on their way into Keras's `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    import grain


def feed(data: grain.IterDataset[Any]) -> object:
    """What `fit` is given for `data`: under TensorFlow the same batches, by a tf.data pipeline that is not tuned.

    The thread that tunes a pipeline sleeps twice as long each time (10 ms, 20 ms, 40 ms, ...). The call that ends it is
    often lost (TensorFlow 2.21), and then `fit` returns when it wakes the next time: up to as late again as the fit has
    taken. There is nothing to tune: Grain gathers ahead.
    """
    if keras.backend.backend() != "tensorflow":
        return data
    try:
        from keras.src.trainers.data_adapters.grain_dataset_adapter import GrainDatasetAdapter
    except ImportError:  # another Keras, which keeps it elsewhere
        return data
    dataset = GrainDatasetAdapter(data).get_tf_dataset()
    options = type(dataset.options())()
    options.autotune.enabled = False
    return dataset.with_options(options)
