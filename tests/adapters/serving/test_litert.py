"""The LiteRT predictor: the answers of Keras for batches of any size, and TensorFlow where LiteRT cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selftrain.adapters.serving.litert import fast_predictor, litert_predictor
from selftrain.learn.models.loading import load

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def test_litert_answers_as_keras_does_and_each_image_by_itself(colour_model: Path) -> None:
    model, _ = load(colour_model)
    images = np.random.default_rng(3).integers(0, 256, (7, 16, 16, 3), np.uint8)
    predictor = litert_predictor(model)
    assert predictor is not None
    np.testing.assert_allclose(predictor(images), model.predict_on_batch(images), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(predictor(images)[4:5], predictor(images[4:5]))
    np.testing.assert_array_equal(predictor(images[:, :, ::-1])[0], predictor(images[:1, :, ::-1].copy())[0])


def test_a_model_that_litert_cannot_hold_is_answered_by_tensorflow() -> None:
    import keras

    image = keras.Input((8, 8, 3))
    inside = keras.ops.erfinv(keras.ops.cast(image, "float32") / 256)
    model = keras.Model(image, keras.ops.mean(inside, axis=(1, 2)))
    images = np.random.default_rng(4).integers(0, 256, (3, 8, 8, 3), np.uint8)
    assert litert_predictor(model) is None
    np.testing.assert_allclose(fast_predictor(model)(images), model.predict_on_batch(images), rtol=1e-5)
