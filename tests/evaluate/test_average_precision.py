"""Average precision of detections: COCO's numbers, and what a bootstrap over images says of a difference."""

from __future__ import annotations

import numpy as np
import pytest

from selftrain.config import Metric
from selftrain.errors import ConfigError
from selftrain.evaluate.average_precision import Boxes, judge
from selftrain.evaluate.detection import coco_numbers, compared, evaluate_detector
from selftrain.evaluate.evaluation import ComparisonResult

CLASSES = 3


def boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner, sides = rng.uniform(0, 180, (count, 2)), rng.uniform(4, 120, (count, 2))
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)


def scenes(seed: int, *, images: int = 30, noise: float = 6.0, crowds: float = 0.0) -> tuple[list[Boxes], list[Boxes]]:
    """Detections near what is marked, and others that are nowhere."""
    rng = np.random.default_rng(seed)
    found, marked = [], []
    for _ in range(images):
        count = int(rng.integers(0, 10))
        there, classes = boxes(rng, count), rng.integers(0, CLASSES, count)
        marked.append(Boxes.marked(there, classes, rng.random(count) < crowds))
        near = there + rng.normal(0, noise, there.shape).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        others = boxes(rng, int(rng.integers(0, 5)))
        every = np.concatenate([near, others])
        names = np.concatenate([classes, rng.integers(0, CLASSES, len(others))])
        found.append(Boxes.found(every, names, rng.random(len(every)).astype(np.float32)))
    return found, marked


@pytest.mark.parametrize("crowds", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("most", [300, 3])
def test_the_numbers_are_those_of_pycocotools(seed: int, crowds: float, most: int) -> None:
    found, marked = scenes(seed, crowds=crowds)
    own = judge(found, marked, classes=CLASSES, most=most)
    theirs = coco_numbers(found, marked, classes=CLASSES, most=most)
    assert own.map == pytest.approx(theirs["map"], abs=1e-9)
    assert own.ap50 == pytest.approx(theirs["ap50"], abs=1e-9)
    assert 0.05 < own.map < own.ap50


def test_200_objects_of_one_image_that_are_found_perfectly_give_1() -> None:
    rng = np.random.default_rng(0)
    there = np.concatenate([np.arange(200)[:, None] * [20, 0], np.arange(200)[:, None] * [20, 0] + 10], axis=1)
    marked = [Boxes.marked(there.astype(np.float32), np.zeros(200, np.int64), np.zeros(200, np.bool_))]
    found = [Boxes.found(there.astype(np.float32), np.zeros(200, np.int64), rng.random(200).astype(np.float32))]
    assert evaluate_detector(found, marked, class_names=("a",), draws=10).map == pytest.approx(1.0)
    assert evaluate_detector(found, marked, class_names=("a",), most=100, draws=10).map == pytest.approx(
        0.505, abs=2e-3
    )


def test_a_detector_that_finds_nothing_has_0_and_a_class_without_objects_has_no_number() -> None:
    nothing = [Boxes.found(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))] * 2
    _, [marked, other] = scenes(2, images=2)
    report = evaluate_detector(nothing, [marked, other], class_names=("a", "b", "c", "never"), draws=20)
    assert (report.map, report.ap50, report.recall) == (0.0, 0.0, 0.0)
    assert report.interval == (0.0, 0.0)
    assert report.per_class[3].map is None
    assert report.per_class[3].objects == 0


def test_a_better_detector_is_better_and_one_compared_with_itself_is_not() -> None:
    (good, marked), (bad, _) = scenes(1, noise=2.0), scenes(1, noise=14.0)
    report = evaluate_detector(good, marked, class_names=("a", "b", "c"), teacher=bad, control=good, draws=200)
    assert report.comparison is not None
    assert report.control is not None
    assert report.comparison.finding is ComparisonResult.BETTER
    assert report.comparison.difference_interval[0] > 0
    assert report.comparison.p_value < 0.05
    assert report.comparison.difference == pytest.approx(report.map - report.comparison.reference)
    assert (report.control.difference, report.control.p_value) == (0.0, 1.0)
    low, high = report.interval
    assert low < report.map < high


def test_the_same_images_give_the_same_interval_each_time() -> None:
    found, marked = scenes(3)
    other, _ = scenes(3, noise=9.0)
    one, two = (
        compared(judge(found, marked, classes=CLASSES), judge(other, marked, classes=CLASSES), draws=50)
        for _ in range(2)
    )
    assert one == two


@pytest.mark.parametrize("name", ["accuracy", "macro_f1"])
def test_a_detector_has_no_accuracy(name: Metric) -> None:
    found, marked = scenes(0, images=3)
    report = evaluate_detector(found, marked, class_names=("a", "b", "c"), draws=10)
    assert report.metric("map") == report.map
    assert report.metric("ap50") == report.ap50
    with pytest.raises(ConfigError, match="a detector has map and ap50"):
        report.metric(name)
