"""Outlines: masks in views, the points that a training looks at, and masks drawn from prototypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras import ops

from selftrain.data.annotations.run_lengths import mask_of, pixels_of
from selftrain.data.sources.objects.coco import read_coco
from selftrain.evaluate.average_precision import Boxes, judge
from selftrain.evaluate.detection import coco_numbers, evaluate_detector
from selftrain.evaluate.mask_overlaps import mask_overlaps
from selftrain.learn.detection.detect import Choice, Detections, Detector
from selftrain.learn.detection.network import PROTOTYPES, DetectorShape, build_detector
from selftrain.learn.detection.training import DetectorRecipe, train_detector
from selftrain.learn.detection.views import Moves, drawn, moved, seen
from selftrain.learn.shapes.objects import COLUMNS, Objects, packed
from selftrain.learn.shapes.outlines import (
    SIDE,
    UNKNOWN,
    Outline,
    areas_of,
    as_texts,
    drawn_masks,
    patches,
    points_in,
    sampled,
)
from selftrain.selflabel.detection.photos import outlined, scenes_of
from tests.learn.detection.drawn import NAMES, drawn_scene, drawn_scenes
from tests.learn.detection.drawn_coco import coco

pytestmark = pytest.mark.keras


def test_a_view_shows_of_a_mask_what_it_shows_of_the_pixels() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        _, objects = drawn_scene(rng)
        assert objects.outlines is not None
        whole = np.zeros((96, 96, 3), np.uint8)
        whole[pixels_of(objects.outlines[0].runs, height=96, width=96) > 0] = 255
        matrix = drawn(rng, Moves(turns=True), 96, 96, 64)
        alone = objects.at(np.array([0]))
        view = moved(alone, matrix, 64)
        if not len(view):
            continue
        picture = seen(whole, matrix, 64)[..., 0] > 127
        assert view.patches is not None
        points = np.clip(np.floor(points_in(view.boxes)[0]).astype(int), 0, 63)
        agree = picture[points[..., 1], points[..., 0]] == (view.patches[0] == 1)
        assert agree.mean() > 0.9  # they round apart at the edge


def test_an_outline_at_a_scale_is_the_same_shape_made_smaller() -> None:
    mask = np.zeros((40, 60), np.bool_)
    mask[10:20, 30:50] = True
    outline = Outline(mask_of(mask), 40, 60, scale=0.5)
    inside = outline.at(np.array([[15.1, 5.1], [24.9, 9.9], [14.9, 5.1], [15.1, 10.1]]))
    assert inside.tolist() == [True, True, False, False]


def test_a_large_mask_is_kept_no_finer_than_a_training_sees_it() -> None:
    y, x = np.mgrid[:900, :1200]
    disc = (x - 640) ** 2 + (y - 450) ** 2 < 400**2
    outline = Outline(mask_of(disc), 900, 1200, scale=0.1)
    points = np.stack(np.meshgrid(np.arange(120) + 0.5, np.arange(90) + 0.5), axis=-1)
    truth = ((points * 10 - (640, 450)) ** 2).sum(axis=-1) < 400**2
    assert (outline.at(points) == truth).mean() > 0.99
    assert sum(value.nbytes for value in vars(outline._kept).values() if isinstance(value, np.ndarray)) < 5_000


def test_the_areas_of_more_masks_than_a_byte_counts() -> None:
    masks = np.empty(300, object)
    for row in range(300):
        mask = np.zeros((20, 20), np.bool_)
        mask.flat[: row + 1] = True
        masks[row] = {"size": [20, 20], "counts": mask_of(mask)}
    assert areas_of(masks) == [float(row + 1) for row in range(300)]


def test_an_object_without_an_outline_has_unknown_points() -> None:
    found = patches(np.array([None], object), np.array([[0, 0, 8, 8]], np.float32), np.eye(3)[:2])
    assert (found == UNKNOWN).all()
    none = Objects.of(np.array([[0, 0, 8, 8]], np.float32), np.zeros(1, np.int64))
    rows = packed([none], most=3, masks=True)
    assert rows.shape == (1, 3, len(COLUMNS) + SIDE * SIDE)
    assert (rows[..., len(COLUMNS) :] == UNKNOWN).all()


def test_a_view_may_miss_every_object() -> None:
    _, objects = drawn_scene(np.random.default_rng(0))
    view = moved(objects, np.array([[1.0, 0, 1000], [0, 1, 1000]]), 64)
    assert len(view) == 0
    assert packed([view], most=3, masks=True)[..., 4].sum() == 0


def test_points_are_sampled_between_cells() -> None:
    maps = np.broadcast_to(np.arange(8, dtype=np.float32)[None, None, None], (1, 1, 8, 8)).copy()
    boxes = np.array([[[8.0, 8.0, 24.0, 24.0]]], np.float32)
    values = ops.convert_to_numpy(sampled(maps, boxes, 4)).reshape(SIDE, SIDE)
    across = (8 + (np.arange(SIDE) + 0.5) / SIDE * 16) / 4 - 0.5
    np.testing.assert_allclose(values, np.broadcast_to(across, (SIDE, SIDE)), atol=1e-5)


def test_a_drawn_mask_lies_in_its_box_and_follows_its_prototype() -> None:
    prototypes = np.full((16, 16, 1), -1.0, np.float32)
    prototypes[:, :8] = 1.0  # the left half of the image
    boxes = np.array([[16, 8, 48, 24], [40, 8, 60, 24]], np.float32)
    both = drawn_masks(prototypes, np.ones((2, 1), np.float32), boxes, stride=4, scale=1.0, height=64, width=64)
    first, second = (pixels_of(each["counts"], height=64, width=64) > 0 for each in both)
    assert first[8:24, 16:30].all()
    assert not first[:, 34:].any()
    assert first.sum() == pytest.approx(16 * 16, rel=0.1)
    assert second.sum() == 16 * 20  # nothing of it is inside: it has its whole box
    assert areas_of(both) == [float(first.sum()), float(second.sum())]
    assert as_texts(both)[0] == {"size": [64, 64], "counts": mask_of(first).decode()}


def test_outlines_of_a_coco_file_reach_the_training(tmp_path: Any) -> None:
    labelled = read_coco(coco(tmp_path, images=4, seed=1, outlines=True), images=tmp_path / "photos")
    assert outlined(labelled.annotations, labelled.images, name="name") == 1.0
    whole, half = (scenes_of(labelled, range(4), longest=longest) for longest in (96, 48))
    for one, other in zip(whole.objects, half.objects, strict=True):
        assert one.outlines is not None
        assert other.outlines is not None
        x, y = one.boxes[0, :2] + (one.boxes[0, 2:] - one.boxes[0, :2]) / 2
        assert one.outlines[0].at(np.array([[x, y]])).all()
        assert other.outlines[0].at(np.array([[x / 2, y / 2]])).all()


def test_a_file_without_outlines_has_none_to_learn(tmp_path: Any) -> None:
    labelled = read_coco(coco(tmp_path, images=4, seed=1), images=tmp_path / "photos")
    assert outlined(labelled.annotations, labelled.images, name="name") == 0.0
    assert all(each.outlines is None for each in scenes_of(labelled, range(4)).objects)


def _boxes(objects: Objects) -> Boxes:
    assert objects.outlines is not None
    masks = np.array([each.whole for each in objects.outlines], object)
    return Boxes.marked(objects.boxes, objects.classes, objects.ignored, masks)


def test_cocos_numbers_of_masks_tell_a_disc_from_its_box() -> None:
    marked = [_boxes(each) for each in drawn_scenes(12, seed=4).objects]
    exact = [Boxes.found(m.boxes, m.classes, np.ones(len(m.boxes), np.float32), m.masks) for m in marked]
    report = evaluate_detector(exact, marked, class_names=NAMES, draws=20)
    assert report.masks is not None
    assert (report.map, report.masks.map, report.masks.images) == (1.0, 1.0, 12)
    whole = [Boxes.found(m.boxes, m.classes, np.ones(len(m.boxes), np.float32), _filled(m.boxes)) for m in marked]
    report = evaluate_detector(whole, marked, class_names=NAMES, draws=20)
    assert report.masks is not None
    assert report.map == 1.0
    assert 0.5 < report.masks.map < 0.95  # a disc fills .785 of its box
    without = [Boxes.found(m.boxes, m.classes, np.ones(len(m.boxes), np.float32)) for m in marked]
    assert evaluate_detector(without, marked, class_names=NAMES, draws=20).masks is None


def _shifted(marked: list[Boxes], seed: int) -> list[Boxes]:
    """Masks that lie a few pixels beside what is marked, so that their overlaps differ."""
    rng = np.random.default_rng(seed)
    found = []
    for each in marked:
        assert each.masks is not None
        moved = np.empty(len(each.masks), object)
        for row, mask in enumerate(each.masks):
            pixels = pixels_of(mask["counts"], height=96, width=96)
            moved[row] = {"size": [96, 96], "counts": mask_of(np.roll(pixels, int(rng.integers(0, 9)), axis=1))}
        scores = rng.random(len(each.boxes)).astype(np.float32)
        found.append(Boxes.found(each.boxes, each.classes, scores, moved))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_masks_is_drawn_from_what_pycocotools_counts(seed: int) -> None:
    marked = [_boxes(each) for each in drawn_scenes(16, seed=seed).objects]
    found = _shifted(marked, seed)
    theirs = coco_numbers(found, marked, classes=len(NAMES), most=300, of="segm")
    own = judge(found, marked, classes=len(NAMES), overlaps=mask_overlaps)
    assert (own.map, own.ap50) == (pytest.approx(theirs["map"]), pytest.approx(theirs["ap50"]))
    report = evaluate_detector(found, marked, class_names=NAMES, draws=200)
    assert report.masks is not None
    assert report.masks.interval is not None
    low, high = report.masks.interval
    assert 0.2 < low < report.masks.map < high < 1.0
    assert report.interval[0] > high  # the boxes are exact


def test_a_crowd_that_is_marked_by_its_box_alone_is_as_large_as_its_box() -> None:
    """What is found in a crowd does not count, even if no mask tells the size of the image."""
    boxes, classes = np.array([[10, 10, 60, 60]], np.float32), np.zeros(1, np.int64)
    one = Boxes.marked(boxes, classes, np.zeros(1, np.bool_), _filled(boxes))
    nothing = np.empty(1, object)
    crowd = Boxes.marked(boxes, classes, np.ones(1, np.bool_), nothing)
    found = [Boxes.found(boxes, classes, np.array([score], np.float32), _filled(boxes)) for score in (0.5, 0.9)]
    report = evaluate_detector(found, [one, crowd], class_names=("cell",), draws=20)
    assert report.masks is not None
    assert report.masks.map == pytest.approx(1.0)
    assert report.masks.interval is not None
    assert report.masks.interval[1] == pytest.approx(1.0)


def _filled(boxes: np.ndarray) -> np.ndarray:
    out = np.empty(len(boxes), object)
    for row, (x0, y0, x1, y1) in enumerate(boxes.astype(int)):
        mask = np.zeros((96, 96), np.bool_)
        mask[y0:y1, x0:x1] = True
        out[row] = {"size": [96, 96], "counts": mask_of(mask)}
    return out


@pytest.mark.slow
def test_a_detector_learns_outlines_of_drawn_scenes() -> None:
    train, held = drawn_scenes(60, seed=1), drawn_scenes(20, seed=2)
    shape = DetectorShape("mobilenet_v2_035", len(NAMES), strides=(4, 8, 16), masks=PROTOTYPES)
    model = train_detector(
        build_detector(shape), shape, DetectorRecipe(steps=300, size=96, learning_rate=4e-3), train, seed=0
    )
    found = Detector(model, shape.strides, Choice(score=0.02))(held.images)
    report = evaluate_detector(
        [Boxes.found(each.boxes, each.classes, each.scores, each.masks) for each in found],
        [_boxes(each) for each in held.objects],
        class_names=NAMES,
        draws=20,
    )
    assert report.masks is not None
    assert report.ap50 > 0.6
    assert report.masks.ap50 > 0.8 * report.ap50
    assert isinstance(found[0], Detections)
    boxes, _, _, masks = found[0].plain(NAMES)
    assert masks is not None
    assert len(masks) == len(boxes)
