"""The survey: what folders hold, from names and headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain.config import FolderSource
from selftrain.data.sources.survey import Survey, survey
from selftrain.errors import SourceError

Paint = Callable[..., Path]


def look(root: Path, **folders: str) -> Survey:
    named = {"labeled": "labeled", "unlabeled": "unlabeled"} | folders
    return survey(FolderSource(**{role: str(root / name) for role, name in named.items()}))


def grey(path: Path, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(side).integers(0, 256, (side, side), np.uint8)).save(path)


def test_classes_counts_sides_and_formats_are_seen(tmp_path: Path, paint: Paint) -> None:
    for k in range(3):
        paint(tmp_path / "labeled" / "cat" / f"{k}.jpg", "red", side=20 + 20 * k)
    paint(tmp_path / "labeled" / "dog" / "0.png", "green", side=40)
    paint(tmp_path / "unlabeled" / "deep" / "0.webp", "blue", side=100)
    paint(tmp_path / "test" / "cat" / "0.png", "red", side=40)
    paint(tmp_path / "test" / "dog" / "0.png", "red", side=40)
    (tmp_path / "labeled" / "cat" / "notes.txt").write_text("")
    seen = look(tmp_path, test="test")
    assert seen.classes == {"cat": 3, "dog": 1}
    assert (seen.labeled_images, seen.unlabeled_images, seen.validation_images, seen.test_images) == (4, 1, None, 2)
    assert (seen.shortest_side, seen.median_side, seen.longest_side) == (20, 40, 100)
    assert seen.formats == {"JPEG": 3, "PNG": 3, "WebP": 1}
    assert (seen.ignored_files, seen.sampled, seen.unreadable) == (1, 7, 0)
    assert (seen.imbalance, seen.grey, seen.characters) == (3.0, False, False)


def test_grey_pictures_are_known_also_where_they_are_stored_in_colour(tmp_path: Path) -> None:
    for name in ("0", "1"):
        grey(tmp_path / "labeled" / name / "a.png")
    grey(tmp_path / "unlabeled" / "a.png")
    with Image.open(tmp_path / "unlabeled" / "a.png") as image:
        image.convert("RGB").save(tmp_path / "unlabeled" / "b.png")
    seen = look(tmp_path)
    assert (seen.grey, seen.characters) == (True, True)


def test_broken_files_are_counted_and_only_broken_ones_are_an_error(tmp_path: Path, paint: Paint) -> None:
    for name in ("cat", "dog", "x"):
        folder = tmp_path / "labeled" / name if name != "x" else tmp_path / "unlabeled"
        folder.mkdir(parents=True)
        (folder / "a.jpg").write_bytes(b"\xff\xd8\xff" if name == "cat" else b"no image")
    with pytest.raises(SourceError, match="none of the 3 files"):
        look(tmp_path)
    paint(tmp_path / "unlabeled" / "b.png", "red")
    assert (look(tmp_path).sampled, look(tmp_path).unreadable) == (1, 3)


def test_a_huge_picture_is_seen_by_its_header_alone(tmp_path: Path, paint: Paint) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / "labeled" / name / "a.png", "red")
    (tmp_path / "unlabeled").mkdir()
    Image.new("1", (12_000, 12_000)).save(tmp_path / "unlabeled" / "large.png")
    assert look(tmp_path).longest_side == 12_000


def test_only_a_sample_of_many_files_is_opened(tmp_path: Path, paint: Paint) -> None:
    original = paint(tmp_path / "labeled" / "cat" / "0.png", "red")
    for k in range(400):
        (tmp_path / "unlabeled").mkdir(exist_ok=True)
        (tmp_path / "unlabeled" / f"{k}.png").symlink_to(original)
    paint(tmp_path / "labeled" / "dog" / "0.png", "red")
    seen = look(tmp_path)
    assert (seen.unlabeled_images, seen.sampled) == (400, 256)
    assert look(tmp_path) == seen


@pytest.mark.parametrize(("strips", "said"), [(1, False), (2, True)])
def test_images_of_which_the_central_square_is_little_are_said(
    tmp_path: Path, paint: Paint, strips: int, said: bool
) -> None:
    for k in range(12):
        path = paint(tmp_path / ("labeled/cat", "labeled/dog", "unlabeled")[k % 3] / f"{k}.png", "red", side=40)
        if k < strips:
            with Image.open(path) as image:
                image.resize((200, 40)).save(path)
    notes = look(tmp_path).notes
    told = "2 of 12 images looked at are 2 times as long as wide, or more: a model sees the central square of each, 20%"
    assert any(note.startswith(told) for note in notes) == said
