"""Several mirrored views of an image: what is found in them comes back to its place, and is averaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selftrain.data.annotations.run_lengths import mask_of, pixels_of
from selftrain.learn.detection.detect import Detections
from selftrain.learn.detection.mirrored import MirroredDetector, Views, fused, mirrored_back, mirrored_pixels
from tests.learn.detection.blocks import BLOCKS, block_detector, box_of, paint_blocks


def found(*rows: tuple[tuple[float, ...], int, float]) -> Detections:
    boxes, classes, scores = zip(*rows, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(classes), np.array(scores, np.float32))


def test_boxes_are_averaged_by_score_and_what_one_view_lacks_counts_as_nothing() -> None:
    one = found(((0, 0, 10, 10), 0, 0.9), ((50, 50, 60, 60), 1, 0.5))
    other = found(((1, 0, 11, 10), 0, 0.3), ((0, 0, 10, 10), 1, 0.2))
    both = fused([one, other])
    np.testing.assert_allclose(both.scores, [0.6, 0.25, 0.1], atol=1e-6)
    np.testing.assert_allclose(both.boxes[0], [0.25, 0, 10.25, 10], atol=1e-5)
    assert both.classes.tolist() == [0, 1, 1]


def test_a_view_gives_a_place_one_box_at_most() -> None:
    crowded = found(((0, 0, 10, 10), 0, 0.8), ((0, 0, 10, 9), 0, 0.6))
    both = fused([crowded, found(((0, 0, 10, 10), 0, 0.4))])
    np.testing.assert_allclose(both.scores, [0.6], atol=1e-6)


def test_two_boxes_that_every_view_tells_apart_stay_two() -> None:
    view = found(((0, 0, 100, 10), 0, 0.8), ((0, 0, 58, 10), 0, 0.6))  # they share .58, and no view calls them doubles
    np.testing.assert_allclose(fused([view, view]).scores, [0.8, 0.6], atol=1e-6)


def test_views_without_any_object_have_none_together() -> None:
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))
    assert len(fused([none, none])) == 0


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_boxes_and_outlines_come_back_to_their_place(turn: int) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[3:8, 10:17] = 255
    shown = mirrored_pixels(image, turn)
    there = shown[..., 0] > 0
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
    mask = np.array([None, {"size": [20, 30], "counts": mask_of(there)}], object)[1:]
    back = mirrored_back(Detections(box, np.zeros(1, np.int64), np.ones(1, np.float32), mask), turn, image)
    assert back.boxes.tolist() == [[10, 3, 17, 8]]
    assert back.masks is not None
    np.testing.assert_array_equal(pixels_of(back.masks[0]["counts"], height=20, width=30) > 0, image[..., 0] > 0)


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("views", [1, 2, 4])
def test_a_detector_that_is_right_in_every_view_is_right_on_average(views: Views, tmp_path: Path) -> None:
    blocks = (0, 0, "red"), (5, 0, "green"), (3, 2, "red")
    images = [paint_blocks(None, *blocks, width=128), paint_blocks(None, width=128)]
    told: list[int] = []
    detector = MirroredDetector(block_detector(tmp_path, masks=True).open(), views)
    some, none = detector(images, progress=lambda done, total, note="": told.append(done))
    boxes = np.concatenate([some.boxes[:, :2], some.boxes[:, 2:] - some.boxes[:, :2]], axis=1).round().tolist()
    names = [BLOCKS[each] for each in some.classes.tolist()]
    assert sorted(zip(boxes, names, strict=True)) == sorted((box_of(each), each[2]) for each in blocks)
    assert some.masks is not None
    assert len(some.masks) == len(blocks)
    assert len(none) == 0
    assert told == sorted(told)
    assert told[-1] == len(images)
