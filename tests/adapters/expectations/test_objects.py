"""Expectations on objects that are good, and broken in one way each."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from selftrain.adapters.expectations.frames import LABELED
from selftrain.adapters.expectations.objects import object_frame, object_report_folder, validate_objects
from selftrain.adapters.expectations.validate import require_passed
from selftrain.config import EXPECTATIONS, OBJECT_EXPECTATIONS, Checks
from selftrain.data.annotations.table import Annotations
from selftrain.data.label_map import LabelMap
from selftrain.data.manifest import SCHEMA, Manifest
from selftrain.data.sources.objects.labelled import DrawnBoxes
from selftrain.errors import ValidationError
from selftrain.files.workspace import Workspace
from selftrain.report.validation import ExpectationResult, ValidationReport

pytestmark = [
    # marshmallow, that Great Expectations builds on, warns of its own next version at import.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CLASSES = LabelMap(("cell", "dust"))
SPLITS = ["train"] * 8 + ["validation"] * 4 + ["test"] * 4 + ["unlabeled"] * 4
LABELLED = 16
Box = tuple[int, str, float, float, float, float]
"""Row of the image, class, and corners."""


def image_id(row: int) -> str:
    return hashlib.sha256(str(row).encode()).hexdigest()


def manifest(*, side: int = 128) -> Manifest:
    count = len(SPLITS)
    labelled = [split != "unlabeled" for split in SPLITS]
    columns: dict[str, list[Any]] = {
        "image_id": [image_id(row) for row in range(count)],
        "shard": ["a.arrayrecord"] * count,
        "index": list(range(count)),
        "origin": [f"photos/{row}.png" for row in range(count)],
        "width": [side] * count,
        "height": [side] * count,
        "phash": np.random.default_rng(0).integers(0, 2**63, count).tolist(),
        "split": SPLITS,
        "label": [0 if each else None for each in labelled],
        "label_source": ["human" if each else None for each in labelled],
        "weight": [1.0] * count,
    }
    plain = {f.name: f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in SCHEMA}
    made = {name: pa.array(values, plain[name]) for name, values in columns.items()}
    return Manifest.build(pa.table(made), LabelMap(("annotated images",)))


def good() -> list[Box]:
    """A cell of 30 and a piece of dust of 20 pixels in every labelled image."""
    each = ((row, name, x, 10.0, x + s, 10.0 + s) for row in range(LABELLED) for name, x, s in _TWO)
    return list(each)


_TWO = (("cell", 10.0, 30.0), ("dust", 60.0, 20.0))


def objects(boxes: list[Box], crowd: tuple[int, ...] = ()) -> Annotations:
    columns = {
        "image_id": [image_id(row) for row, *_ in boxes],
        "label": pa.array([CLASSES.index(name) for _, name, *_ in boxes], pa.int32()),
        **{
            side: pa.array([box[2 + k] for box in boxes], pa.float32())
            for k, side in enumerate(("x0", "y0", "x1", "y1"))
        },
        "crowd": [row in crowd for row in range(len(boxes))],
        "source": ["human"] * len(boxes),
    }
    return Annotations.build(pa.table(columns), CLASSES)


NONE_BEYOND = DrawnBoxes(boxes=32)


def checked(
    boxes: list[Box], folder: Path, *, side: int = 128, drawn: DrawnBoxes = NONE_BEYOND, **checks: Any
) -> ValidationReport:
    chosen = Checks(min_images_per_class=1, **checks)
    return validate_objects(manifest(side=side), objects(boxes), drawn, 0.0, chosen, folder, view=128)


def missed(report: ValidationReport) -> dict[str, ExpectationResult]:
    return {result.expectation: result for result in report.results if not result.success}


def test_good_objects_meet_every_expectation_beside_those_on_images(tmp_path: Path) -> None:
    report = checked(good(), tmp_path)
    assert missed(report) == {}
    assert {result.expectation for result in report.results} == {*EXPECTATIONS, *OBJECT_EXPECTATIONS}
    by_name = {result.expectation: result for result in report.results}
    assert "0 of 16 annotated images have no object" in by_name["images_without_objects"].observed
    assert by_name["objects_per_image"].observed == "2 on average, at most 2"
    page = (tmp_path / "validation.html").read_text()
    assert all(name in page for name in OBJECT_EXPECTATIONS)


BROKEN: dict[str, tuple[list[Box], str]] = {
    "box_sides": ([*good(), (4, "dust", 100, 100, 103, 102)], "dust at 100 100 103 102 in"),
    "boxes_once": ([*good(), (5, "cell", 10, 10, 40, 40)], "photos/5.png"),
    "objects_per_class": (
        [box for box in good() if box[1] == "cell" or not 8 <= box[0] < 12],
        "0 of 'dust' in validation",
    ),
    "images_without_objects": (
        [box for box in good() if box[0] not in (0, 1, 2, 3, 4, 8, 9, 12, 13)],
        "9 of 16 annotated images have no object (train 5 of 8, validation 2 of 4, test 2 of 4)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_objects_miss_their_expectation_and_are_named(name: str, tmp_path: Path) -> None:
    boxes, said = BROKEN[name]
    report = checked(boxes, tmp_path)
    assert list(missed(report)) == [name]
    result = missed(report)[name]
    assert said in f"{result.observed} {result.rows}"
    assert OBJECT_EXPECTATIONS[name] == "warn"
    assert report.passed
    assert len(report.warnings) == 1
    require_passed(report)


def test_many_boxes_drawn_beyond_their_images_stop_a_run_and_are_named(tmp_path: Path) -> None:
    drawn = DrawnBoxes(boxes=40, beyond=3, examples=("cell at 90 70 190 160 in 3.png of 100x80 pixels",))
    report = checked(good(), tmp_path, drawn=drawn)
    assert list(missed(report)) == ["boxes_inside"]
    with pytest.raises(
        ValidationError, match=r"3 of 40 boxes were drawn beyond .*, such as cell at 90 70 190 160 in 3"
    ):
        require_passed(report)
    require_passed(checked(good(), tmp_path, drawn=drawn, max_boxes_beyond=0.1))


def test_boxes_are_measured_by_the_scale_of_the_training_images(tmp_path: Path) -> None:
    """Objects of a quarter of the view in training, so that nothing is made smaller, and large ones in test."""
    boxes: list[Box] = [(row, "cell", 0, 0, 32, 32) for row in range(8)]
    boxes += [(row, "cell", 0, 0, 500, 500) for row in range(8, LABELLED)]
    frame = object_frame(manifest(side=512).part(*LABELED).table, objects(boxes), view=128)
    assert sorted(set(frame["side"])) == [32.0, 500.0]


def test_too_many_objects_in_an_image_are_named_with_their_number(tmp_path: Path) -> None:
    report = checked(
        [*good(), *((6, "cell", 50, 60, 80 + k, 90.0) for k in range(4))], tmp_path, max_objects_per_image=5
    )
    (result,) = missed(report).values()
    assert result.expectation == "objects_per_image"
    assert "photos/6.png, train, objects 6" in result.rows[0]


def test_boxes_are_measured_as_the_network_sees_large_images(tmp_path: Path) -> None:
    """Half of a view of 128 px is what nine of ten objects fit in: of images of 4,096 px with objects of 1,024."""
    boxes: list[Box] = [(row, "cell", 0, 0, 1024, 1024) for row in range(LABELLED) for _ in range(1)]
    boxes += [(row, "dust", 2000, 2000, 2000 + 1024, 2010) for row in range(LABELLED)]
    boxes.append((2, "dust", 3000, 3000, 3040, 3040))
    report = checked(boxes, tmp_path, side=4096)
    assert list(missed(report)) == ["box_sides"]
    assert "1 of 33 boxes are smaller" in missed(report)["box_sides"].observed


def test_crowds_are_no_boxes_and_images_without_any_object_are_fine(tmp_path: Path) -> None:
    boxes = [*good(), (4, "dust", 100, 100, 103, 102)]
    small = objects(boxes, crowd=(len(boxes) - 1,))
    table = manifest().part(*LABELED).table
    assert len(object_frame(table, small, view=128)) == 2 * LABELLED
    assert len(object_frame(table, Annotations.empty(CLASSES), view=128)) == 0
    report = checked([], tmp_path)
    assert set(missed(report)) == {"objects_per_class", "images_without_objects"}


def test_other_objects_have_a_report_of_their_own(tmp_path: Path) -> None:
    made, space = manifest(), Workspace(tmp_path)
    one, other = objects(good()), objects(good()[:-1])
    folder = partial(object_report_folder, space, made, quarantine_share=0.0, checks=Checks())
    folders = {folder(each, NONE_BEYOND, view=128) for each in (one, other, one)}
    assert len(folders) == 2
    assert folder(one, NONE_BEYOND, view=256) not in folders
    assert folder(one, DrawnBoxes(boxes=32, beyond=1), view=128) not in folders
