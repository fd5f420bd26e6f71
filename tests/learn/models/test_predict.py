"""Batched prediction."""

import numpy as np
import pytest

from selftrain.data.store.pixels import ArrayPixels

pytestmark = pytest.mark.keras


def corner_model():
    """Its logits are the sums of the left and the right half of the image, in one channel."""
    import keras

    image = keras.Input((4, 4, 3))
    left = keras.ops.sum(image[:, :, :2, 0], axis=(1, 2))
    right = keras.ops.sum(image[:, :, 2:, 0], axis=(1, 2))
    return keras.Model(image, keras.ops.stack([left, right], axis=1))


def pixels(n: int) -> ArrayPixels:
    return ArrayPixels(np.random.default_rng(0).integers(0, 256, (n, 4, 4, 3), np.uint8))


@pytest.mark.parametrize("count", [1, 32, 70])
def test_logits_come_in_the_order_of_the_rows_for_any_count(count: int) -> None:
    from selftrain.learn.models.predict import predict_logits

    images = pixels(90)
    rows = np.random.default_rng(1).permutation(90)[:count]
    seen: list[tuple[int, int]] = []
    logits = predict_logits(
        corner_model(), images, rows, batch_size=32, progress=lambda done, total, note="": seen.append((done, total))
    )
    wanted = images.array[rows][:, :, :2, 0].sum(axis=(1, 2))
    np.testing.assert_allclose(logits[:, 0], wanted)
    assert logits.shape == (count, 2)
    assert seen[-1] == (count, count)


def test_flips_average_over_the_mirror_image() -> None:
    from selftrain.learn.models.predict import predict_logits

    logits = predict_logits(corner_model(), pixels(5), np.arange(5), flips=True)
    np.testing.assert_allclose(logits[:, 0], logits[:, 1])


def test_no_rows_give_no_logits() -> None:
    from selftrain.learn.models.predict import predict_logits

    assert predict_logits(corner_model(), pixels(5), np.arange(0)).shape == (0, 2)
