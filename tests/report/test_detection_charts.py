"""Charts of a detector: which boxes are right, wrong and missed, and pictures that are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from selftrain.evaluate.average_precision import Boxes, judge
from selftrain.report.detection_charts import judged_image, precision_recall, sheet
from selftrain.report.drawn_boxes import draw_boxes

THERE = np.array([[10, 10, 30, 30], [50, 50, 70, 70], [5, 60, 15, 75]], np.float32)
MARKED = Boxes.marked(THERE, np.array([0, 0, 1]), np.array([False, False, False]))
FOUND = Boxes.found(
    np.array([[11, 10, 31, 30], [12, 11, 30, 29], [80, 80, 90, 90], [51, 50, 70, 70], [5, 60, 15, 75]], np.float32),
    np.array([0, 0, 1, 0, 0]),
    np.array([0.9, 0.8, 0.7, 0.3, 0.6], np.float32),
)


def test_each_object_is_found_once_and_only_above_the_threshold_and_in_its_class() -> None:
    judged = judged_image(FOUND, MARKED, thresholds=(0.5, 0.5))
    assert judged.right.tolist() == [[11, 10, 31, 30]]
    assert len(judged.wrong) == 3  # a double, one where nothing is, and one of another class
    assert judged.missed.tolist() == [[50, 50, 70, 70], [5, 60, 15, 75]]
    assert judged.mistakes == 5
    assert judged_image(FOUND, MARKED, thresholds=(0.2, 0.5)).missed.tolist() == [[5, 60, 15, 75]]


def test_a_crowd_is_not_missed() -> None:
    crowd = Boxes.marked(THERE[:1], np.array([0]), np.array([True]))
    nothing = Boxes.found(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))
    assert judged_image(nothing, crowd, thresholds=(0.5,)).mistakes == 0


def test_pictures_are_drawn_whatever_names_the_classes_have(tmp_path: Path) -> None:
    judged = judge([FOUND], [MARKED], classes=2)
    chart = precision_recall(judged, ("5$ <b>", "a" * 60), tmp_path / "charts" / "curve.png")
    pixels = np.full((100, 120, 3), 90, np.uint8)
    page = sheet([(judged_image(FOUND, MARKED, (0.5, 0.5)), pixels)] * 5, tmp_path / "sheet.png")
    for path in (chart, page):
        with Image.open(path) as image:
            assert image.width > 600
    assert sheet([], tmp_path / "none.png") == tmp_path / "none.png"
    assert not (tmp_path / "none.png").exists()


def test_boxes_are_drawn_where_they_are() -> None:
    drawn = np.asarray(draw_boxes(np.zeros((100, 120, 3), np.uint8), THERE.tolist(), [0, 0, 1], class_names=("a", "b")))
    assert drawn[10, 10].any()
    assert drawn[50:70, 69].any()
    assert not drawn[35:45, 35:45].any()
