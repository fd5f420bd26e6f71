"""Augmentation of a batch, eager and traced."""

import numpy as np
import pytest

pytestmark = pytest.mark.keras

PRESETS = [(preset, strength) for preset in ("digits", "natural") for strength in ("weak", "strong")]


def images(n: int = 4, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)


def augmented(batch: np.ndarray, preset: str, strength: str, seed: int = 1, **overrides) -> np.ndarray:
    import keras

    from selftrain.learn.augmentation.policy import augmenter

    layer = augmenter(preset, strength, batch.shape[1], seed, **overrides)
    return keras.ops.convert_to_numpy(layer(batch, training=True))


def applied(batch: np.ndarray, seed: int = 0, **policy) -> np.ndarray:
    import keras

    from selftrain.learn.augmentation.policy import Augment, Policy

    layer = Augment(Policy(**policy), image_size=batch.shape[1], seed=seed)
    return keras.ops.convert_to_numpy(layer(batch, training=True))


@pytest.mark.parametrize(("preset", "strength"), PRESETS)
def test_a_preset_changes_training_images_keeps_their_shape_and_range_and_leaves_others_alone(preset, strength) -> None:
    import keras

    from selftrain.learn.augmentation.policy import augmenter

    layer = augmenter(preset, strength, 16, seed=1)
    batch = images(32)
    changed = keras.ops.convert_to_numpy(layer(batch, training=True))
    assert changed.shape == (32, 16, 16, 3)
    assert changed.dtype == np.float32
    assert changed.min() >= -1e-4
    assert changed.max() <= 255 + 1e-4
    moved = [np.abs(one - other).mean() > 1 for one, other in zip(changed, batch, strict=True)]
    assert sum(moved) >= 30  # a crop may happen to move an image nowhere
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(batch, training=False)), batch)


@pytest.mark.parametrize(("preset", "strength"), PRESETS)
def test_black_and_white_images_stay_in_range(preset, strength) -> None:
    edges = np.zeros((24, 16, 16, 3), np.uint8)
    edges[8:16] = 255
    edges[16:, ::2] = 255
    out = augmented(edges, preset, strength)
    assert out.min() >= -1e-4
    assert out.max() <= 255 + 1e-4


@pytest.mark.parametrize(("preset", "strength"), PRESETS)
def test_a_seed_gives_the_same_images_another_seed_others(preset, strength) -> None:
    np.testing.assert_array_equal(augmented(images(), preset, strength), augmented(images(), preset, strength))
    assert (augmented(images(), preset, strength, seed=2) != augmented(images(), preset, strength)).any()


@pytest.mark.parametrize(("preset", "strength"), PRESETS)
def test_copies_of_one_image_in_a_batch_become_different_images(preset, strength) -> None:
    out = augmented(np.repeat(images(1), 16, axis=0), preset, strength)
    assert len({image.tobytes() for image in out}) >= 12


@pytest.mark.parametrize(("preset", "strength"), PRESETS)
def test_traced_and_eager_give_the_same_images(preset, strength) -> None:
    import keras

    from selftrain.learn.augmentation.policy import augmenter
    from selftrain.learn.networks.batchnorm import _InTrainingMode

    eager = augmented(images(), preset, strength, seed=5)
    image = keras.Input((16, 16, 3))
    inner = keras.Model(image, augmenter(preset, strength, 16, seed=5)(image))
    traced = keras.Model(image, _InTrainingMode(inner)(image))
    traced.compile(jit_compile=False)
    np.testing.assert_allclose(traced.predict_on_batch(images()), eager, atol=1e-2)


@pytest.mark.parametrize(
    "policy",
    [
        {"rotation_degrees": 40, "zoom": 0.3, "shear": 0.3, "shift": 0.3},
        {"flip": True, "crop": 0.25, "fill": "reflect"},
        {"rotation_degrees": 40, "crop": 0.25, "fill": "reflect"},
        {"crop_area": 0.2, "flip": True},
    ],
)
def test_moves_leave_an_image_of_one_colour_as_it_is(policy: dict) -> None:
    flat = np.repeat(np.array([0, 3, 128, 255], np.uint8), 16 * 16 * 3).reshape(4, 16, 16, 3)
    np.testing.assert_allclose(applied(flat, **policy), flat, atol=1e-3)


def test_a_crop_by_area_shows_a_part_of_the_image_and_nothing_else() -> None:
    across = np.tile(np.arange(16, dtype=np.uint8)[None, :, None] * 16, (64, 16, 1, 3))
    out = applied(across, crop_area=0.25)
    assert out.min() >= 0
    assert out.max() <= 240
    row = out[:, 8, :, 0]
    rising = np.diff(row[:, 1:-1], axis=1)
    # A part of the ramp is a flatter ramp: its slope is the part's width, between the narrowest part and the whole.
    slope = rising.mean(axis=1) / 16
    np.testing.assert_allclose(rising, 16 * slope[:, None] * np.ones(rising.shape[1]), atol=0.1)
    assert np.sqrt(0.25 * 3 / 4) - 0.01 <= slope.min() < 0.6
    assert 0.9 < slope.max() <= 1.01
    assert row[:, 0].std() > 10  # it is taken from anywhere


def test_only_photos_are_cropped_by_area() -> None:
    np.testing.assert_array_equal(
        augmented(images(), "digits", "strong", crop_area=0.3), augmented(images(), "digits", "strong")
    )
    assert (augmented(images(), "natural", "weak", crop_area=0.3) != augmented(images(), "natural", "weak")).any()


@pytest.mark.parametrize(("preset", "strength"), [("digits", "strong"), ("natural", "strong")])
def test_xla_compiles_a_preset(preset, strength) -> None:
    import keras

    from selftrain.learn.augmentation.policy import augmenter
    from selftrain.learn.networks.batchnorm import _InTrainingMode

    layer = augmenter(preset, strength, 16, seed=5)
    layer.gathers = True  # as on an accelerator
    image = keras.Input((16, 16, 3))
    compiled = keras.Model(image, _InTrainingMode(keras.Model(image, layer(image)))(image))
    compiled.compile(jit_compile=True)
    out = compiled.predict_on_batch(images(16))
    assert out.min() >= -1e-4
    assert out.max() <= 255 + 1e-4
    # Other random numbers than without XLA, of the same kind.
    assert np.abs(out - images(16)).mean() == pytest.approx(
        np.abs(augmented(images(16), preset, strength) - images(16)).mean(), rel=0.3
    )


@pytest.mark.parametrize("fill", ["nearest", "reflect"])
def test_gathering_reads_the_same_pixels_as_the_kernel(fill: str) -> None:
    import keras

    from selftrain.learn.augmentation.affine import gathered

    batch = images(8).astype(np.float32)
    rng = np.random.default_rng(1)
    matrix = np.float32([1, 0, 0, 0, 1, 0, 0, 0]) + rng.normal(0, 0.2, (8, 8)).astype(np.float32)
    matrix[:, [2, 5]] += rng.uniform(-9, 9, (8, 2)).astype(np.float32)
    matrix[:, 6:] = 0
    kernel = keras.ops.image.affine_transform(batch, matrix, fill_mode=fill)
    ours, theirs = (keras.ops.convert_to_numpy(each) for each in (gathered(batch, matrix, fill=fill), kernel))
    np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_none_changes_nothing() -> None:
    np.testing.assert_array_equal(augmented(images(), "none", "strong", operations=3), images())


def test_a_flip_alone_mirrors_about_half_of_the_images_exactly() -> None:
    batch = images(64)
    out = applied(batch, flip=True)
    mirrored = [np.array_equal(one, other[:, ::-1]) for one, other in zip(out, batch, strict=True)]
    same = [np.array_equal(one, other) for one, other in zip(out, batch, strict=True)]
    assert sum(mirrored) + sum(same) == 64
    assert 16 <= sum(mirrored) <= 48


def test_a_crop_is_a_window_of_the_mirrored_border_whole_pixels_away() -> None:
    batch = images(48)
    out = applied(batch, crop=0.125, fill="reflect")
    padded = np.pad(batch, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="symmetric")
    seen = set()
    for image, source in zip(out, padded, strict=True):
        fits = [(y, x) for y in range(5) for x in range(5) if np.array_equal(image, source[y : y + 16, x : x + 16])]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) >= 15  # of 25 places
    assert {y for y, _ in seen} == {x for _, x in seen} == set(range(5))


def test_cutout_turns_one_square_of_at_most_half_the_side_grey() -> None:
    batch = np.zeros((64, 32, 32, 3), np.uint8)
    out = applied(batch, cutout=0.5)
    holes = out[..., 0] == 127.5
    assert set(np.unique(out)) == {0.0, 127.5}
    rows, columns = holes.any(axis=2).sum(axis=1), holes.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(holes.sum(axis=(1, 2)), rows * columns)
    assert rows.max() <= 16
    assert rows.max() >= 12
    assert rows.min() <= 4


def test_a_recipes_own_count_and_magnitude_change_strong_views_only() -> None:
    batch = images(16)
    np.testing.assert_array_equal(
        augmented(batch, "natural", "weak", operations=5), augmented(batch, "natural", "weak")
    )
    still = augmented(batch, "digits", "strong", operations=1, magnitude=0.0)
    more = augmented(batch, "digits", "strong", operations=3, magnitude=10.0)
    assert np.abs(more - still).mean() > 5
    assert (augmented(batch, "digits", "strong", operations=0) == augmented(batch, "digits", "strong")).all()


def test_digits_are_never_mirrored_nor_erased() -> None:
    from selftrain.learn.augmentation.policy import policy

    for strength in ("weak", "strong"):
        digits = policy("digits", strength)
        assert not digits.flip
        assert digits.cutout == digits.operations == 0


def test_the_digits_presets_draw_what_they_always_drew() -> None:
    golden = {"weak": (169.624, 131.169), "strong": (108.861, 132.013)}
    ramp = np.arange(16 * 16 * 3, dtype=np.float32).reshape(1, 16, 16, 3) % 251
    for strength, (first, mean) in golden.items():
        out = augmented(ramp, "digits", strength, seed=7)
        assert out[0, 8, 8, 1] == pytest.approx(first, abs=1e-2)
        assert out.mean() == pytest.approx(mean, abs=1e-2)
