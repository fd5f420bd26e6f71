"""COCO files as tools really write them: each quirk is read, left out with a count, or refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from selftrain.data.sources.objects.coco import read_coco
from selftrain.data.sources.objects.labelled import Fault, LabelledImages
from selftrain.errors import SourceError

OBJECT = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 6, 4]}
SQUARE = [[2, 2, 8, 2, 8, 8, 2, 8]]


def read(folder: Path, *objects: dict[str, object], **changed: object) -> LabelledImages:
    Image.new("RGB", (20, 10)).save(folder / "a.png")
    images = [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}]
    content = {"images": images, "categories": [{"id": 1, "name": "cell"}], "annotations": list(objects), **changed}
    (folder / "labels.json").write_text(json.dumps(content))
    return read_coco(folder / "labels.json", images=str(folder))


def test_ids_from_zero_twice_and_missing_keys_lose_no_object(tmp_path: Path) -> None:
    found = read(tmp_path, {**OBJECT, "id": 0}, {**OBJECT, "id": 0, "bbox": [3, 3, 2, 2]})
    assert found.annotations.boxes.tolist() == [[1, 2, 7, 6], [3, 3, 5, 5]]
    assert any("share their id" in note for note in found.notes)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"bbox": [1, 2, 0, 4]}, Fault.EMPTY_BOX),
        ({"bbox": [1, 2, 3, -4]}, Fault.EMPTY_BOX),
        ({"bbox": [30, 2, 6, 4]}, Fault.OUTSIDE),
        ({"bbox": [1, 2, 900, 4]}, Fault.FAR),
        ({"bbox": [1, 2, 10**400, 4]}, Fault.NOT_FINITE),
        ({"bbox": [1, "2", 3, 4]}, Fault.NOT_NUMBERS),
        ({"bbox": None}, Fault.NO_BOX),
        ({"segmentation": [[1, 1, 5, 1, 5]]}, Fault.ODD_COORDINATES),
        ({"segmentation": [[1, 1, 5, 1, 5, 1e9]]}, Fault.FAR),
        ({"segmentation": {"size": [20, 10], "counts": [200]}}, Fault.RLE_SIZE),
        ({"segmentation": {"size": [10, 20], "counts": [5, 5]}}, Fault.RLE_COUNTS),
        ({"segmentation": {"size": [10, 20], "counts": "PPPP"}}, Fault.RLE_COUNTS),
    ],
)
def test_an_object_that_cannot_be_used_is_left_out_with_its_reason(
    tmp_path: Path, changed: dict[str, object], fault: Fault
) -> None:
    found = read(tmp_path, OBJECT, {**OBJECT, "id": 2, **changed})
    assert (len(found.annotations), dict(found.left_out)) == (1, {fault: 1})
    assert any(fault.value in note for note in found.notes)


def boxes(format_of: Callable[[int, int, int, int], list[float]]) -> list[dict[str, object]]:
    """Twelve objects of an image of 20 by 10, their boxes in another format."""
    known = [(k, k % 5, 5, 4) for k in range(12)]
    return [{**OBJECT, "id": k, "bbox": format_of(*box)} for k, box in enumerate(known)]


def test_boxes_that_are_shares_or_corners_are_refused_and_others_are_not(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"all 12 boxes lie between 0 and 1: .* shares of the image's sides"):
        read(tmp_path, *boxes(lambda x, y, w, h: [x / 20, y / 10, w / 20, h / 10]))
    with pytest.raises(SourceError, match=r"boxes reach beyond their images, and all fit as two corners"):
        read(tmp_path, *boxes(lambda x, y, w, h: [x, y, x + w, y + h]))
    assert len(read(tmp_path, *boxes(lambda x, y, w, h: [x, y, w, h])).annotations) == 12
    assert len(read(tmp_path, *boxes(lambda x, y, w, h: [0, 0, 20, 10])).annotations) == 12


def test_crowds_are_said(tmp_path: Path) -> None:
    found = read(tmp_path, OBJECT, {**OBJECT, "id": 2, "bbox": [3, 3, 2, 2], "iscrowd": 1})
    assert "1 objects are crowds (iscrowd): they neither teach nor count as missed" in found.notes


def test_what_a_converter_marked_to_be_ignored_neither_teaches_nor_counts(tmp_path: Path) -> None:
    found = read(tmp_path, OBJECT, {**OBJECT, "id": 2, "bbox": [3, 3, 2, 2], "ignore": 1, "iscrowd": 0})
    assert found.annotations.crowd.tolist() == [False, True]
    assert "1 objects are marked with `ignore`: they neither teach nor count as missed" in found.notes
    assert not read(tmp_path, {**OBJECT, "ignore": 0}).annotations.crowd.any()


def test_a_turned_rectangle_of_cvat_becomes_the_box_around_it(tmp_path: Path) -> None:
    """CVAT writes the rectangle before it was turned, and the degrees around its centre beside it."""
    turned = {**OBJECT, "segmentation": [], "attributes": {"occluded": False, "rotation": 90.0}}
    found = read(tmp_path, turned)
    assert found.annotations.boxes.tolist() == [[2, 1, 6, 7]]
    assert "1 rectangles are turned (the attribute `rotation`): the upright boxes around them are taken" in found.notes
    upright = read(tmp_path, {**turned, "attributes": {"rotation": 0.0}}, {**turned, "id": 2, "attributes": {}})
    assert upright.annotations.boxes.tolist() == [[1, 2, 7, 6]] * 2
    outlined = read(
        tmp_path, {**turned, "bbox": [2, 2, 6, 6], "segmentation": SQUARE}
    )  # its box is that of the outline
    assert outlined.annotations.boxes.tolist() == [[2, 2, 8, 8]]


@pytest.mark.parametrize(
    "segmentation",
    [[{"size": [10, 20], "counts": [22, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 122]}], [[2, 2], [8, 2], [8, 8], [2, 8]]],
)
def test_run_lengths_in_a_list_and_points_as_pairs_are_outlines(tmp_path: Path, segmentation: object) -> None:
    found = read(tmp_path, {**OBJECT, "bbox": [2, 2, 6, 6], "segmentation": segmentation})
    assert found.annotations.has_mask.tolist() == [True]
    plain = read(tmp_path, {**OBJECT, "bbox": [2, 2, 6, 6], "segmentation": SQUARE})
    assert found.annotations.table["mask"] == plain.annotations.table["mask"]


def test_an_outline_that_lies_outside_its_box_is_left_out(tmp_path: Path) -> None:
    """As where a program shrank the images and the boxes, and forgot the outlines."""
    apart = {**OBJECT, "id": 2, "bbox": [10, 2, 6, 6], "segmentation": SQUARE}
    assert read(tmp_path, OBJECT, apart).left_out == {Fault.APART: 1}
    larger = {**OBJECT, "id": 2, "bbox": [0, 0, 20, 10], "segmentation": SQUARE}  # around what is hidden, too
    assert read(tmp_path, OBJECT, larger).left_out == {}


def test_two_spellings_of_a_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="'Cell' and 'cell' differ only in letter case"):
        read(tmp_path, OBJECT, categories=[{"id": 1, "name": "cell"}, {"id": 2, "name": "Cell"}])


@pytest.mark.parametrize("segmentation", [[], [[]], [[1, 1]], [[1, 1, 4, 4]], None])
def test_a_polygon_without_three_points_is_no_outline(tmp_path: Path, segmentation: object) -> None:
    found = read(tmp_path, {**OBJECT, "segmentation": segmentation})
    assert found.annotations.has_mask.tolist() == [False]


@pytest.mark.parametrize(
    "segmentation",
    [SQUARE, {"size": [10, 20], "counts": [22, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 122]}],
)
def test_a_box_is_found_from_its_outline(tmp_path: Path, segmentation: object) -> None:
    found = read(tmp_path, {**OBJECT, "bbox": [], "segmentation": segmentation, "iscrowd": 1})
    assert found.annotations.boxes.tolist() == [[2, 2, 8, 8]]
    assert found.annotations.crowd.tolist() == [True]
    assert found.annotations.has_mask.tolist() == [True]


def test_a_box_beyond_the_image_is_cut_and_told(tmp_path: Path) -> None:
    found = read(tmp_path, {**OBJECT, "bbox": [-5, 2, 60, 30]})
    assert found.annotations.boxes.tolist() == [[0, 2, 20, 10]]
    assert any("reached beyond" in note for note in found.notes)


def test_images_without_objects_stay_and_are_told(tmp_path: Path) -> None:
    assert read(tmp_path).without_objects == 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"images": [{"id": 1, "file_name": "../a.png"}]}, "not a file below"),
        ({"images": [{"id": 1, "file_name": "/a.png"}]}, "not a file below"),
        ({"images": [{"id": 1, "file_name": "http://x/a.png"}]}, "not a file below"),
        ({"images": [{"id": 1, "file_name": "b.png"}]}, "1 of 1 images are not in"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]}, "come more than once"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "./a.png"}]}, "are one file"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 10, "height": 20}]}, "turned by its EXIF"),
        ({"images": [{"id": 2, "file_name": "a.png"}]}, "1 annotations have a image_id"),
        ({"categories": [{"id": 2, "name": "cell"}]}, "1 annotations have a category_id"),
        ({"categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "cell"}]}, "two categories of one name"),
        ({"annotations": [{**OBJECT, "area": float("nan")}]}, "NaN is not JSON"),
        ({"annotations": {}}, "no list of objects under 'annotations'"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, changed: dict[str, object], told: str) -> None:
    with pytest.raises(SourceError, match=told):
        read(tmp_path, OBJECT, **changed)
