"""What a distillation learns from: no image of validation, and none twice."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selftrain.data.store.pixels import ArrayPixels
from selftrain.errors import ConfigError
from selftrain.learn.distillation.material import NO_LABEL, Material, material
from selftrain.learn.models.contract import Contract

pytestmark = pytest.mark.keras

COLOURS = np.array(["blue", "green", "red"])
CONTRACT = Contract(backbone="by_hand", image_size=16, class_names=tuple(COLOURS))


def painted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images (n, 16, 16, 3) of one colour each, and its name."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = rng.integers(0, 60, (n, 16, 16, 3))
    images[np.arange(n), :, :, 2 - labels] += rng.integers(60, 180, (n, 1, 1))
    return images.astype(np.uint8), COLOURS[labels]


def sorted_out(images: object, labeled: object, validation: object, folder: Path) -> Material:
    return material(images, labeled, validation, CONTRACT, folder / "cache", seed=0)


def seen(found: Material) -> list[bytes]:
    """The pixels of each image that is learnt from."""
    return [image.tobytes() for image in found.pixels.gather(found.rows)]


def validating(found: Material) -> set[bytes]:
    return {image.tobytes() for image in found.validation.pixels.gather(found.validation.rows)}


def test_the_labelled_fifth_that_validates_is_not_learnt_from_among_all_photos(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    for number in range(30):
        photo = paint(tmp_path / "all" / f"{number}.png", COLOURS[number % 3], seed=number)
        if number < 24:
            copy = tmp_path / "labeled" / COLOURS[number % 3] / f"copy-{number}.png"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, copy)
    found = sorted_out(tmp_path / "all", tmp_path / "labeled", None, tmp_path)
    assert not validating(found) & set(seen(found))
    assert len(validating(found)) == found.held_out >= 1
    assert len(set(seen(found))) == len(seen(found)) == 30 - found.held_out
    assert (found.labels == NO_LABEL).sum() == 6


@pytest.mark.parametrize("kind", ["array", "Pixels", "files"])
def test_given_validation_images_are_not_learnt_from_with_or_without_label(
    kind: str, tmp_path: Path, paint: Callable[..., Path]
) -> None:
    from selftrain.data.images.decode import decode

    files = [paint(tmp_path / "all" / f"{n:02}.png", COLOURS[n % 3], side=16, seed=n) for n in range(12)]
    images = np.stack([decode(file.read_bytes(), 16, max_pixels=10**6) for file in files])
    names = COLOURS[np.arange(12) % 3]
    pool = {"array": images, "Pixels": ArrayPixels(images), "files": files}[kind]
    found = sorted_out(pool, (images[:6], names[:6]), (images[4:8], names[4:8]), tmp_path)
    assert not validating(found) & set(seen(found))
    assert sorted(seen(found)) == sorted(image.tobytes() for image in images[[0, 1, 2, 3, 8, 9, 10, 11]])
    assert (found.labels >= 0).sum() == 4  # an image that has a label is kept with it
    assert (found.held_out, found.repeated) == (4 + 2, 4)


def test_an_image_that_comes_twice_is_learnt_from_once(tmp_path: Path) -> None:
    images, names = painted(9, seed=1)
    found = sorted_out(np.concatenate([images, images[:5]]), None, painted(6, seed=2), tmp_path)
    assert seen(found) == [image.tobytes() for image in images]
    assert (found.held_out, found.repeated) == (0, 5)
    with pytest.raises(ConfigError, match=r"validation holds all 9 images; give images= that it does not hold"):
        sorted_out(images, None, (images, names), tmp_path)
