"""Label Studio's JSON export as it really is: percent, turned boxes, polygons, brush strokes, several annotations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from selftrain.cli.detections import drawn_in
from selftrain.config import CocoSource
from selftrain.data.annotations.run_lengths import pixels_of
from selftrain.data.sources.coco import CocoImages
from selftrain.data.sources.objects.brush import painted
from selftrain.data.sources.objects.label_studio import holds_tasks, read_label_studio
from selftrain.data.sources.objects.labelled import Fault, LabelledImages
from selftrain.errors import ConfigError, SourceError

WIDTH, HEIGHT = 40, 20


def region(kind: str, name: str | None, **value: Any) -> dict[str, Any]:
    labels = {} if name is None else {kind: [name]}
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"id": "r", "type": kind, "from_name": "label", "to_name": "image", **size, "value": {**value, **labels}}


def box(name: str | None = "cell", *, rotation: float = 0, **more: float) -> dict[str, Any]:
    return region(
        "rectanglelabels", name, **{"x": 25, "y": 10, "width": 50, "height": 40, "rotation": rotation, **more}
    )


def task(*regions: dict[str, Any], image: str = "/data/upload/1/0a1b2c3d-a.png", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [{"id": 7, "result": list(regions), **more}]}


def write(folder: Path, *tasks: dict[str, Any], names: Sequence[str] = ("a.png",)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for shade, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (shade * 40, 90, 90)).save(folder / name)
    (folder / "export.json").write_text(json.dumps(list(tasks)))
    return folder / "export.json"


def read(folder: Path, *tasks: dict[str, Any], names: Sequence[str] = ("a.png",)) -> LabelledImages:
    return read_label_studio(write(folder, *tasks, names=names), images=str(folder))


def encoded(values: Sequence[int], *, literal: int = 0) -> list[int]:
    """Values as Label Studio packs them: the first `literal` ones by themselves, the others as runs."""
    sizes = (3, 4, 8, 16)
    bits = f"{len(values):032b}{8 - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)

    def count(number: int) -> str:
        at = next(k for k, size in enumerate(sizes) if number - 1 < 1 << size)
        return f"{at:02b}{number - 1:0{sizes[at]}b}"

    if literal:
        bits += "0" + count(literal) + "".join(f"{value:08b}" for value in values[:literal])
    at = literal
    while at < len(values):
        end = at
        while end < len(values) and values[end] == values[at] and end - at < 1 << 16:
            end += 1
        bits += "1" + count(end - at) + f"{values[at]:08b}"
        at = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def rgba(mask: np.ndarray) -> list[int]:
    values: list[int] = np.repeat(np.where(mask, 255, 0)[..., None], 4, axis=2).ravel().tolist()
    return values


def test_percent_becomes_pixels_and_classes_are_sorted(tmp_path: Path) -> None:
    found = read(tmp_path, task(box("disc"), box("cell", x=0, y=0, width=10, height=10)))
    assert found.label_map.names == ("cell", "disc")
    assert found.annotations.boxes.tolist() == [[0, 0, 4, 2], [10, 2, 30, 10]]
    assert found.annotations.labels.tolist() == [0, 1]
    assert found.images["name"].to_pylist() == ["a.png"]


def test_a_turned_box_is_turned_in_pixels_about_its_corner_and_told(tmp_path: Path) -> None:
    """20 by 8 pixels at (10, 2), a quarter turn clockwise: it reaches from x = 10 to the left, and 20 down."""
    found = read(tmp_path, task(box(rotation=90, x=50, y=0)))
    np.testing.assert_allclose(found.annotations.boxes, [[12, 0, 20, 20]], atol=1e-4)
    assert any("1 boxes are turned" in note for note in found.notes)


def test_polygons_and_ellipses_are_outlines(tmp_path: Path) -> None:
    triangle = region("polygonlabels", "cell", points=[[0, 0], [50, 0], [0, 100]], closed=True)
    ellipse = region("ellipselabels", "disc", x=75, y=50, radiusX=10, radiusY=40, rotation=0)
    found = read(tmp_path, task(triangle, ellipse))
    np.testing.assert_allclose(found.annotations.boxes, [[0, 0, 20, 20], [26, 2, 34, 18]], atol=0.1)
    first, second = (
        pixels_of(mask or b"", height=HEIGHT, width=WIDTH) for mask in found.annotations.masks(slice(0, 2))
    )
    assert abs(int(first.sum()) - 200) < 25
    assert first[1, 1]
    assert not first[18, 18]
    assert abs(int(second.sum()) - np.pi * 4 * 8) < 15


def test_brush_strokes_are_outlines_whether_packed_as_runs_or_one_by_one(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[3:9, 5:25] = True
    for literal in (0, 7):
        rle = encoded(rgba(mask), literal=literal)
        np.testing.assert_array_equal(painted(rle, height=HEIGHT, width=WIDTH), mask)
        found = read(tmp_path, task(region("brushlabels", "cell", format="rle", rle=rle)))
        assert found.annotations.boxes.tolist() == [[5, 3, 25, 9]]
        stored = found.annotations.masks(slice(0, 1))[0]
        np.testing.assert_array_equal(pixels_of(stored or b"", height=HEIGHT, width=WIDTH) > 0, mask)


def test_broken_regions_are_left_out_by_reason(tmp_path: Path) -> None:
    short = encoded(rgba(np.ones((HEIGHT, WIDTH), np.bool_)))[:8]
    other = encoded([255] * 4)
    broken = [
        region("brushlabels", "cell", rle=short),
        region("brushlabels", "cell", rle=other),
        box(width="wide"),  # type: ignore[arg-type]  # a broken file may hold it
        box(width=0),
        region("polygonlabels", "cell", points=[[0, 0], [1, 1]]),
    ]
    found = read(tmp_path, task(box(), *broken))
    assert len(found.annotations) == 1
    assert found.left_out == {Fault.RLE_COUNTS: 2, Fault.NOT_NUMBERS: 1, Fault.EMPTY_BOX: 1, Fault.NO_BOX: 1}


def test_the_newest_annotation_counts_and_unlabelled_or_skipped_tasks_do_not(tmp_path: Path) -> None:
    twice = task(box("old"), image="a.png", updated_at="2026-01-01")
    twice["annotations"].append({"result": [box("new")], "updated_at": "2026-02-01"})
    truth = task(box("truth"), image="b.png", updated_at="2026-01-01", ground_truth=True)
    truth["annotations"].append({"result": [box("later")], "updated_at": "2026-02-01"})
    empty = task(image="c.png")
    skipped = task(box(), image="d.png", was_cancelled=True)
    untouched = {"id": 5, "data": {"image": "e.png"}, "annotations": [], "predictions": [{"result": [box()]}]}
    names = [f"{letter}.png" for letter in "abcde"]
    found = read(tmp_path, twice, truth, empty, skipped, untouched, names=names)
    assert found.label_map.names == ("new", "truth")
    assert found.images["name"].to_pylist() == ["a.png", "b.png", "c.png"]
    assert found.without_objects == 1
    assert any("2 tasks have no annotation, or were skipped" in note for note in found.notes)
    assert any("2 tasks have several annotations" in note for note in found.notes)


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("/data/local-files/?d=deep/a.png", "deep/a.png"),
        ("s3://bucket/photos/deep/a.png", "deep/a.png"),
        ("https://host/x/a.png?token=1", "a.png"),
        ("/data/upload/3/0a1b2c3d-a.png", "0a1b2c3d-a.png"),
        ("/data/upload/3/0a1b2c3d-a.png", "a.png"),
        ("https://host/x/my%20photo%C3%BC.png", "my photoü.png"),
        ("s3://bucket/a%20folder/100%25.png", "a folder/100%.png"),
        ("https://host/x/100%25.png", "100%25.png"),
    ],
)
def test_an_image_is_found_by_the_end_of_its_address(tmp_path: Path, image: str, file: str) -> None:
    found = read(tmp_path, task(box(), image=image), names=[file])
    assert found.images["name"].to_pylist() == [file]


@pytest.mark.parametrize(
    "nameless",
    [
        box(None) | {"id": "other"},
        box() | {"id": "other", "value": {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": []}},
        region("polygon", None, points=[[0, 0], [9, 0], [0, 9]]) | {"id": None},
        region("brush", None, rle=[0, 1]) | {"id": "other"},
    ],
)
def test_an_image_with_an_object_without_a_class_is_not_used(tmp_path: Path, nameless: dict[str, Any]) -> None:
    """It would teach this object as background."""
    tasks = [task(box(), image="a.png"), task(nameless, image="b.png"), task(box(), nameless, image="c.png")]
    found = read(tmp_path, *tasks, names=["a.png", "b.png", "c.png"])
    assert found.images["name"].to_pylist() == ["a.png"]
    assert any("2 images have an object without a class" in note for note in found.notes)
    with pytest.raises(SourceError, match="each image with objects has one without a class"):
        read(tmp_path, tasks[2], names=["c.png"])


def test_key_points_alone_are_no_empty_image_and_beside_boxes_do_no_harm(tmp_path: Path) -> None:
    point = region("keypointlabels", "tip", x=50, y=50, width=0.5) | {"id": "p"}
    choice = {"id": "q", "type": "choices", "from_name": "kind", "to_name": "image", "value": {"choices": ["sharp"]}}
    tasks = [task(box(), point, choice, image="a.png"), task(point, image="b.png"), task(choice, image="c.png")]
    found = read(tmp_path, *tasks, names=["a.png", "b.png", "c.png"])
    assert found.label_map.names == ("cell",)
    assert found.images["name"].to_pylist() == ["a.png", "c.png"]
    assert any("2 regions have no class" in note for note in found.notes)


def test_a_box_whose_class_and_text_are_regions_of_its_id_has_a_class(tmp_path: Path) -> None:
    """As the tags Rectangle, Labels and TextArea write it."""
    shape = {"x": 25, "y": 10, "width": 50, "height": 40, "rotation": 0}
    parts = [region(kind, None, **shape) for kind in ("rectangle", "textarea")]
    parts.append(region("labels", "cell", **shape))
    found = read(tmp_path, task(*parts))
    assert found.annotations.boxes.tolist() == [[10, 2, 30, 10]]
    assert not any("without a class" in note or "have no class" in note for note in found.notes)


def pair(*regions: dict[str, Any]) -> dict[str, Any]:
    return {"id": 5, "data": {"one": "a.png", "two": "b.png"}, "annotations": [{"result": list(regions)}]}


def test_regions_of_two_images_in_a_task_are_not_mixed(tmp_path: Path) -> None:
    names = ["a.png", "b.png"]
    on_two = box("late", x=0) | {"to_name": "two"}
    found = read(tmp_path, pair(box() | {"to_name": "one"}, on_two), names=names)
    assert (found.images["name"].to_pylist(), found.label_map.names) == (["a.png"], ("cell",))
    assert any("1 regions lie on another image" in note for note in found.notes)
    assert any("several images: only 'one' is used" in note for note in found.notes)
    assert read(tmp_path, pair(on_two), names=names).images["name"].to_pylist() == ["b.png"]
    with pytest.raises(SourceError, match="task 5 has the images one, two and regions on before, now"):
        read(tmp_path, pair(box() | {"to_name": "before"}, box() | {"to_name": "now"}), names=names)


def test_images_that_were_turned_are_refused_or_left_out(tmp_path: Path) -> None:
    other = box() | {"original_width": HEIGHT, "original_height": WIDTH}
    with pytest.raises(SourceError, match=r"'a.png' was 20 x 40 there and is 40 x 20"):
        read(tmp_path, task(other))
    found = read(
        tmp_path,
        task(box() | {"image_rotation": 90}, image="a.png"),
        task(box(), image="b.png"),
        names=["a.png", "b.png"],
    )
    assert found.images["name"].to_pylist() == ["b.png"]
    assert any("images were turned in Label Studio" in note for note in found.notes)


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([{"image": "a.png", "label": []}], "export it as JSON, not as JSON-MIN"),
        ([{"id": 1, "data": {"image": "a.png"}, "annotations": []}], "none of its tasks has an annotation"),
        ([task(region("keypointlabels", "cell", x=1, y=1))], "no task has an object with a class"),
        ([task(box(), image="gone.png")], r"not in .*gone.png"),
        ([{"id": 4, "data": {"text": "photo.txt"}, "annotations": [{"result": []}]}], "task 4 has no image"),
    ],
)
def test_what_is_not_such_an_export_is_refused(tmp_path: Path, tasks: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        read(tmp_path, *tasks)


def test_a_source_and_the_command_take_it(tmp_path: Path) -> None:
    file = write(tmp_path, task(box()), names=["a.png", "more/b.png"])
    assert drawn_in(None, None, None, label_studio=file) == (str(file), str(tmp_path))
    settings = CocoSource(annotations=str(file), images=str(tmp_path), unlabeled=str(tmp_path / "more"))
    ((split, labelled),) = CocoImages(settings).labelled
    assert (split, len(labelled.annotations)) == (None, 1)
    (tmp_path / "coco.json").write_text("{}")
    assert not holds_tasks(tmp_path / "coco.json")
    with pytest.raises(ConfigError, match="Its COCO export goes to --coco"):
        drawn_in(None, None, None, label_studio=tmp_path / "coco.json")
    with pytest.raises(ConfigError, match="exclude each other"):
        drawn_in(file, None, None, label_studio=file)
