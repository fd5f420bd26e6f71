"""RandAugment's operations on a batch, beside Pillow's on each image."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

pytestmark = pytest.mark.keras

COLOURS = (
    "identity", "autocontrast", "equalize", "brightness", "color", "contrast", "sharpness", "posterize", "solarize",
)  # fmt: skip
MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def images(n: int = 6, size: int = 24) -> np.ndarray:
    """Noise over a shade, so that neither histograms nor ranges are full."""
    rng = np.random.default_rng(0)
    shade = np.linspace(30, 160, size)[None, :, None, None] + rng.uniform(0, 20, (n, 1, 1, 3))
    return (shade + rng.normal(0, 12, (n, size, size, 3))).clip(5, 230).astype(np.uint8)


def recoloured(batch: np.ndarray, name: str, strength: float) -> np.ndarray:
    import keras

    from selftrain.learn.augmentation.randaugment import OPERATIONS, recolour

    operation = np.full(len(batch), OPERATIONS.index(name))
    strengths = np.full(len(batch), strength, np.float32)
    return keras.ops.convert_to_numpy(recolour(keras.ops.cast(batch, "float32"), operation, strengths))


def pillow(image: np.ndarray, name: str, strength: float) -> np.ndarray:
    picture, factor = Image.fromarray(image), 1 - 0.95 * strength
    match name:
        case "autocontrast":
            changed = ImageOps.autocontrast(picture)
        case "equalize":
            changed = ImageOps.equalize(picture)
        case "brightness":
            changed = ImageEnhance.Brightness(picture).enhance(factor)
        case "color":
            changed = ImageEnhance.Color(picture).enhance(factor)
        case "contrast":
            changed = ImageEnhance.Contrast(picture).enhance(factor)
        case "sharpness":
            changed = Image.blend(picture.filter(ImageFilter.SMOOTH), picture, factor)
        case "posterize":
            changed = ImageOps.posterize(picture, 8 - round(4 * strength))
        case "solarize":
            changed = ImageOps.solarize(picture, round(256 * (1 - strength)))
        case _:
            changed = picture
    return np.asarray(changed, np.float32)


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("name", COLOURS)
def test_an_operation_gives_pillows_levels_but_for_rounding(name: str, strength: float) -> None:
    batch = images()
    ours = recoloured(batch, name, strength)
    theirs = np.stack([pillow(image, name, strength) for image in batch])
    inside = np.s_[:, 1:-1, 1:-1] if name == "sharpness" else np.s_[:]  # Pillow leaves the border as it is
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=1.01)
    if name != "identity":
        assert (ours != batch).any()


@pytest.mark.parametrize("name", COLOURS)
def test_black_white_and_the_full_range_stay_within_it(name: str) -> None:
    edges = np.zeros((3, 8, 8, 3), np.uint8)
    edges[1] = 255
    edges[2, ::2] = 255
    for strength in (0.0, 0.5, 1.0):
        out = recoloured(edges, name, strength)
        assert out.min() >= 0
        assert out.max() <= 255
        assert np.all(np.ptp(out[:2], axis=(1, 2)) == 0)  # one colour stays one colour
    if name not in ("autocontrast", "equalize"):
        np.testing.assert_array_equal(recoloured(edges, name, 0.0), edges)


def test_each_image_has_its_own_operation() -> None:
    import keras

    from selftrain.learn.augmentation.randaugment import OPERATIONS, recolour

    batch = np.repeat(images(1), len(OPERATIONS), axis=0)
    strengths = np.full(len(OPERATIONS), 0.5, np.float32)
    together = keras.ops.convert_to_numpy(recolour(batch.astype(np.float32), np.arange(len(OPERATIONS)), strengths))
    for at, name in enumerate(OPERATIONS):
        np.testing.assert_array_equal(together[at], recoloured(batch[:1], name, 0.5)[0])


@pytest.mark.parametrize("name", MOVES)
def test_a_move_is_undone_by_its_opposite_and_nothing_at_strength_0(name: str) -> None:
    import keras

    from selftrain.learn.augmentation.randaugment import OPERATIONS, moved

    operation = np.full(1, OPERATIONS.index(name))

    def matrix(*strengths: float) -> np.ndarray:
        place = moved(operation, np.float32([strengths[0]]), 16)
        for strength in strengths[1:]:
            place = place.then(moved(operation, np.float32([strength]), 16))
        return keras.ops.convert_to_numpy(place.matrix(16))[0]

    still = np.float32([1, 0, 0, 0, 1, 0, 0, 0])
    np.testing.assert_allclose(matrix(0.0), still, atol=1e-5)
    np.testing.assert_allclose(matrix(0.7, -0.7), still, atol=1e-5)
    assert np.abs(matrix(0.7) - still).max() > 0.1


def test_two_moves_read_at_once_are_the_moves_one_after_the_other() -> None:
    import keras

    from selftrain.learn.augmentation.randaugment import OPERATIONS, moved

    ramp = np.zeros((1, 17, 17, 3), np.float32)
    ramp[..., 0], ramp[..., 1] = np.arange(17)[None, None, :], np.arange(17)[None, :, None]
    first = moved(np.array([OPERATIONS.index("rotate")]), np.float32([0.5]), 17)
    second = moved(np.array([OPERATIONS.index("shear_x")]), np.float32([0.6]), 17)

    def read(batch, place) -> np.ndarray:
        return keras.ops.convert_to_numpy(keras.ops.image.affine_transform(batch, place.matrix(17)))

    inner = np.s_[:, 6:11, 6:11, :2]  # where neither read leaves the image
    np.testing.assert_allclose(read(ramp, first.then(second))[inner], read(read(ramp, first), second)[inner], atol=1e-3)
