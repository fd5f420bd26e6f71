"""Batch-norm statistics measured anew."""

import numpy as np
import pytest

pytestmark = pytest.mark.keras


def test_the_statistics_are_those_of_all_images_at_any_depth_with_dropout_off() -> None:
    import keras

    from selftrain.learn.networks.batchnorm import Statistics, layers_of_type
    from selftrain.learn.networks.variables import read

    inner_in = keras.Input((4, 4, 3))
    dropped = keras.layers.Dropout(0.5)(inner_in)
    inner = keras.Model(inner_in, keras.layers.BatchNormalization(momentum=0.9)(dropped))
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(inner(image)))
    images = np.random.default_rng(0).integers(0, 256, (24, 4, 4, 3), np.uint8)
    images[:8] //= 4  # batches that differ
    statistics = Statistics(model)
    statistics.measure([images[8:16]])
    statistics.measure([images[:8], images[8:16], images[16:]])
    (norm,) = layers_of_type(model, keras.layers.BatchNormalization)
    np.testing.assert_allclose(read([norm.moving_mean])[0], images.mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(read([norm.moving_variance])[0], images.var(axis=(0, 1, 2)), rtol=1e-3)
    (dropout,) = layers_of_type(model, keras.layers.Dropout)
    assert (norm.momentum, dropout.rate) == (0.9, 0.5)


def test_a_frozen_layers_statistics_stay() -> None:
    import keras

    from selftrain.learn.networks.batchnorm import Statistics
    from selftrain.learn.networks.variables import read

    image = keras.Input((4, 4, 3))
    norm = keras.layers.BatchNormalization(trainable=False)
    model = keras.Model(image, norm(image))
    Statistics(model).measure([np.full((2, 4, 4, 3), 200, np.uint8)])
    assert read([norm.moving_mean])[0].tolist() == [0, 0, 0]
