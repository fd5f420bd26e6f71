"""What users give, as the uint8 squares that models read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selftrain.data.inputs.squares import SquareImages, gather
from selftrain.errors import SourceError


def images(n: int = 5, side: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)


def unlabeled(given: object, cache: Path, size: int = 16) -> SquareImages:
    return gather(given, role="unlabeled", labeled=False, image_size=size, cache=cache)


def test_arrays_of_the_size_come_back_as_they_were_and_leave_no_file(tmp_path: Path) -> None:
    given = images()
    found = unlabeled(given, tmp_path)
    np.testing.assert_array_equal(found.pixels.gather(found.rows), given)
    np.testing.assert_array_equal(found.pixels.gather(np.array([3, 0])), given[[3, 0]])
    assert list(tmp_path.iterdir()) == []
    assert len(set(found.ids.tolist())) == 5


@pytest.mark.parametrize(
    "turn",
    [
        lambda a: a.astype(np.float32) / 255,
        lambda a: a.astype(np.float64),
        lambda a: np.moveaxis(a, -1, 1),
        lambda a: list(a),
        lambda a: iter([a[:2], a[2:]]),
    ],
    ids=["0-1", "floats", "channels first", "a list", "batches"],
)
def test_the_ways_to_write_the_same_images_are_the_same_pixels(tmp_path: Path, turn: Callable[..., object]) -> None:
    found = unlabeled(turn(images()), tmp_path)
    np.testing.assert_array_equal(found.pixels.gather(found.rows), images())


def test_grey_images_get_three_channels_and_other_sizes_are_cropped_to_squares(tmp_path: Path) -> None:
    grey = np.zeros((2, 20, 40), np.uint8)
    grey[:, :, 6:34] = 200  # the square in the middle, and what its resizing reads beside it
    found = unlabeled(grey, tmp_path, size=10)
    assert found.pixels.gather(found.rows).shape == (2, 10, 10, 3)
    assert (found.pixels.gather(found.rows) == 200).all()


def test_a_folder_is_decoded_and_broken_files_are_left_out(tmp_path: Path, paint: Callable[..., Path]) -> None:
    for number, colour in enumerate(["blue", "green", "red"]):
        paint(tmp_path / "pool" / f"{number}.png", colour)
    (tmp_path / "pool" / "3.png").write_bytes(b"no image")
    found = unlabeled(tmp_path / "pool", tmp_path / "cache")
    assert found.pixels.gather(found.rows).mean(axis=(1, 2)).argmax(axis=1).tolist() == [2, 1, 0]
    assert [Path(each.path).name for each in found.unreadable] == ["3.png"]


@pytest.mark.parametrize(
    ("labels", "indices", "names"),
    [
        ([1, 0, 1, 2, 0], [1, 0, 1, 2, 0], ("0", "1", "2")),
        (["b", "a", "b", "c", "a"], [1, 0, 1, 2, 0], ("a", "b", "c")),
        (np.eye(3)[[1, 0, 1, 2, 0]], [1, 0, 1, 2, 0], ("0", "1", "2")),
    ],
    ids=["indices", "names", "one-hot"],
)
def test_labels_become_indices(tmp_path: Path, labels: object, indices: list[int], names: tuple[str, ...]) -> None:
    given = (images(), np.asarray(labels))
    found = gather(given, role="labeled", labeled=True, image_size=16, cache=tmp_path)
    assert (found.labels.tolist(), found.class_names) == (indices, names)


def test_class_names_give_the_order(tmp_path: Path) -> None:
    given = (images(2), ["b", "a"])
    found = gather(given, role="labeled", labeled=True, image_size=16, cache=tmp_path, class_names=("b", "a", "c"))
    assert (found.labels.tolist(), found.class_names) == ([0, 1], ("b", "a", "c"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (images().astype(np.float32) / 127.5 - 1, "below 0"),
        (images(20).astype(np.float32) / 16, "values reach from .* allowed are 0-1 and 0-255"),
        (np.zeros((2, 16, 16, 4), np.uint8), "grey or RGB"),
        (np.zeros((0, 16, 16, 3), np.uint8), "holds no image"),
    ],
    ids=["normalised", "of 16", "four channels", "nothing"],
)
def test_what_our_models_cannot_read_is_refused(tmp_path: Path, given: object, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        unlabeled(given, tmp_path)
