"""The feed: what Keras is given holds the batches as they are, in a pipeline without a tuning thread to wait for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from selftrain.learn.training.batches import gathered_ahead

pytestmark = pytest.mark.keras


def batch(step: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two images and their targets, named by the step."""
    return np.full((2, 4, 4, 3), step, np.uint8), np.full((2, 5), step, np.float32)


def test_the_feed_gives_the_same_batches_without_tuning() -> None:
    from selftrain.learn.training.feed import feed

    dataset: Any = feed(gathered_ahead(batch, 3, 7))
    assert dataset.options().autotune.enabled is False
    seen = list(dataset.as_numpy_iterator())
    assert len(seen) == 4
    for step, (images, targets) in zip(range(3, 7), seen, strict=True):
        np.testing.assert_array_equal(images, batch(step)[0])
        np.testing.assert_array_equal(targets, batch(step)[1])


def test_other_backends_are_fed_by_grain_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    from selftrain.learn.training.feed import feed

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    data = gathered_ahead(batch, 0, 2)
    assert feed(data) is data
