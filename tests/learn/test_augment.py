"""Augmentation of a batch, eager and traced."""

import numpy as np
import pytest

pytestmark = pytest.mark.keras

PRESETS = [(preset, strength) for preset in ("digits", "natural") for strength in ("weak", "strong")]


def images(n: int = 4, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)


@pytest.mark.parametrize(("preset", "strength"), PRESETS)
def test_a_preset_changes_training_images_keeps_their_shape_and_range_and_leaves_others_alone(preset, strength) -> None:
    import keras

    from selftrain.learn.augment import augmenter

    layer = augmenter(preset, strength, 16, seed=1)
    changed = keras.ops.convert_to_numpy(layer(images(), training=True))
    assert changed.shape == (4, 16, 16, 3)
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert all(np.abs(one - other).mean() > 1 for one, other in zip(changed, images(), strict=True))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(images(), training=False)), images())


@pytest.mark.parametrize(("preset", "strength"), PRESETS)
def test_traced_and_eager_give_the_same_images(preset, strength) -> None:
    import keras

    from selftrain.learn.augment import augmenter
    from selftrain.learn.batchnorm import _InTrainingMode

    eager = keras.ops.convert_to_numpy(augmenter(preset, strength, 16, seed=5)(images(), training=True))
    image = keras.Input((16, 16, 3))
    inner = keras.Model(image, augmenter(preset, strength, 16, seed=5)(image))
    traced = keras.Model(image, _InTrainingMode(inner)(image))
    traced.compile(jit_compile=False)
    np.testing.assert_allclose(traced.predict_on_batch(images()), eager, atol=1e-2)


def test_none_changes_nothing() -> None:
    import keras

    from selftrain.learn.augment import augmenter

    layer = augmenter("none", "strong", 16, seed=1)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(images(), training=True)), images())


def test_a_flip_alone_mirrors_about_half_of_the_images_exactly() -> None:
    import keras

    from selftrain.learn.augment import Augment, Policy

    batch = images(64)
    out = keras.ops.convert_to_numpy(Augment(Policy(flip=True), image_size=16, seed=0)(batch, training=True))
    mirrored = [np.allclose(one, other[:, ::-1], atol=1e-2) for one, other in zip(out, batch, strict=True)]
    same = [np.allclose(one, other, atol=1e-2) for one, other in zip(out, batch, strict=True)]
    assert sum(mirrored) + sum(same) == 64
    assert 16 <= sum(mirrored) <= 48


def test_digits_are_never_mirrored() -> None:
    from selftrain.learn.augment import policy

    assert not policy("digits", "weak").flip
    assert not policy("digits", "strong").flip
