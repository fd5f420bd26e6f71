"""YOLO's text files as tools really write them."""

from pathlib import Path

import pytest
from PIL import Image

from selftrain.cli.detections import drawn_in, held_out_in
from selftrain.config import CocoSource
from selftrain.data.sources.coco import CocoImages
from selftrain.data.sources.objects.labelled import LabelledImages
from selftrain.data.sources.objects.yolo import read_yolo
from selftrain.errors import SourceError


def write(folder: Path, text: str | None, *, names: str = "[cell, dust]", part: str = "train") -> Path:
    photos, labels = folder / "images" / part, folder / "labels" / part
    photos.mkdir(parents=True)
    labels.mkdir(parents=True)
    Image.new("RGB", (20, 10), "red" if part == "train" else "blue").save(photos / f"{part}.png")
    if text is not None:
        (labels / f"{part}.txt").write_text(text)
    file = folder / "data.yaml"
    file.write_text(f"names: {names}\ntrain: images/train\nval: images/val\n")
    return file


def read(folder: Path, text: str | None, *, names: str = "[cell, dust]") -> LabelledImages:
    return read_yolo(write(folder, text, names=names))


def test_shares_become_pixels(tmp_path: Path) -> None:
    found = read(tmp_path, "1 0.5 0.5 0.5 0.4\n")
    assert found.annotations.boxes.tolist() == [[5, 3, 15, 7]]
    assert found.annotations.labels.tolist() == [1]


def test_names_may_be_numbered(tmp_path: Path) -> None:
    assert read(tmp_path, "0 .5 .5 .5 .4", names="{0: a, 1: b}").label_map.names == ("a", "b")


def test_a_polygon_gives_its_box_and_a_box_is_cut_at_the_border(tmp_path: Path) -> None:
    found = read(tmp_path, "0 0.1 0.2 0.5 0.2 0.5 0.8\n1 0.05 0.5 0.2 0.4\n").annotations.boxes
    assert sorted(found.round(3).tolist()) == [[0, 3, 3, 7], [2, 2, 10, 8]]


def test_an_image_with_an_empty_text_has_no_objects(tmp_path: Path) -> None:
    assert read(tmp_path, "").without_objects == 1


def test_a_missing_text_is_told(tmp_path: Path) -> None:
    assert any("1 images have no text file" in note for note in read(tmp_path, None).notes)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 .5 .5 .5 .5", "class 2 is not one of names, 0 to 1"),
        ("0 5 5 3 3", "are these pixels"),
        ("0 .1 .1 .5 .1 .5 .5 .1 .5", "oriented box"),
        ("0 .5 .5 .5", "3 numbers after the class"),
        ("0 .5 x .5 .5", "not a number"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(SourceError, match=rf"train\.txt', line 2: .*{message}"):
        read(tmp_path, f"0 .5 .5 .5 .5\n{line}\n")


def test_val_is_held_out(tmp_path: Path) -> None:
    write(tmp_path, "0 .5 .5 .5 .5")
    file = write(tmp_path, "0 .5 .5 .5 .5", part="val")
    given = held_out_in(file, {"validation": None, "test": None})
    assert given == {"validation": str(file), "test": None}
    annotations, images = drawn_in(None, None, None, yolo=file)
    source = CocoSource(annotations=annotations, images=images, validation=given["validation"])
    assert CocoImages(source).scan().table["split"].to_pylist() == [None, "validation"]
