"""The feed: batches on their way into Keras's `fit`."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
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
    adapter = _adapter() if keras.backend.backend() == "tensorflow" else None
    return data if adapter is None else adapter(data)


@cache
def _adapter() -> type[Any] | None:
    """Keras's own way from Grain to tf.data, tuning switched off; None where this Keras keeps it elsewhere."""
    with suppress(ImportError):
        from keras.src.trainers.data_adapters.grain_dataset_adapter import GrainDatasetAdapter

        class Untuned(GrainDatasetAdapter):  # type: ignore[misc]
            def get_tf_dataset(self) -> Any:
                dataset = super().get_tf_dataset()
                options = type(dataset.options())()
                options.autotune.enabled = False
                return dataset.with_options(options)

        return Untuned
    return None
