"""Who may teach, from which scores, and when a guard rings."""

from __future__ import annotations

import numpy as np
import pytest

from selftrain.learn.detection.detect import Detections
from selftrain.learn.detection.matching import Matches, gain, matched
from selftrain.learn.shapes.objects import Objects
from selftrain.selflabel.detection.choosing import (
    BurnIn,
    BurntIn,
    Readiness,
    alarms,
    best_of,
    burnt_in_enough,
    readiness,
)


def matches(right: list[int], *, objects: list[int], classes: list[int] | None = None) -> Matches:
    """Detections with scores that fall from .9 to .1, some of them right."""
    scores = np.linspace(0.9, 0.1, len(right)).astype(np.float32)
    names = np.zeros(len(right), np.int64) if classes is None else np.array(classes)
    return Matches(scores, names, np.array(right, bool), np.zeros(len(right), np.int64), np.array([objects]))


def test_the_threshold_is_the_lowest_score_with_the_precision() -> None:
    found = readiness(matches([1, 1, 1, 1, 0, 0, 0, 0, 0], objects=[5]), BurnIn(0.8, 0.3))
    assert found.thresholds == pytest.approx((0.5,))
    assert "precision 80% at recall 80% from score 0.50 on 5 validation objects" in found.why


@pytest.mark.parametrize(
    ("right", "objects", "why"),
    [
        ([0, 0, 0, 1], [5], "no score gives a precision of 80%"),
        ([1, 1, 0, 0], [20], "the recall is below 30%"),
        ([], [4], "no score gives"),
        ([0, 0], [0], "the validation images hold no object"),
    ],
)
def test_a_teacher_that_is_not_good_enough_may_not_teach(right: list[int], objects: list[int], why: str) -> None:
    found = readiness(matches(right, objects=objects), BurnIn(0.8, 0.3))
    assert found.thresholds is None
    assert why in found.why


def test_a_class_with_enough_objects_has_a_threshold_of_its_own_and_one_that_is_never_right_teaches_nothing() -> None:
    right, classes = [1] * 40 + [0] * 10, [0] * 40 + [1] * 10
    found = readiness(matches(right, objects=[40, 40], classes=classes), BurnIn(0.8, 0.3))
    assert found.thresholds == (pytest.approx(0.263, abs=0.01), 1.0)
    few = readiness(matches(right, objects=[40, 5], classes=classes), BurnIn(0.8, 0.3))
    assert few.thresholds is not None
    assert few.thresholds[1] == readiness(matches(right, objects=[45]), BurnIn(0.8, 0.3)).thresholds[0]


def test_guards_ring_for_a_teacher_that_finds_next_to_nothing_or_far_too_much() -> None:
    assert [each.kind for each in alarms(0.1, 4.0)] == ["few_boxes"]
    assert [each.kind for each in alarms(9.0, 4.0)] == ["many_boxes"]
    assert alarms(3.0, 4.0) == alarms(4.0, 4.0) == ()


def objects(*boxes: tuple[float, ...], ignored: list[bool] | None = None) -> Objects:
    whole = np.array(boxes, np.float32).reshape(-1, 4)
    return Objects.of(whole, np.zeros(len(whole), np.int64), None if ignored is None else np.array(ignored))


def found(*boxes: tuple[float, ...]) -> Detections:
    whole = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(whole, np.zeros(len(whole), np.int64), np.linspace(0.9, 0.5, len(whole)).astype(np.float32))


def test_an_object_is_found_once_and_a_detection_in_an_ignored_box_counts_neither_way() -> None:
    there = objects((0, 0, 10, 10), (50, 50, 90, 90), ignored=[False, True])
    seen = found((0, 0, 10, 10), (1, 0, 11, 10), (60, 60, 70, 70), (20, 20, 30, 30))
    result = matched([seen], [there], classes=1)
    assert result.right.tolist() == [True, False, False]
    assert result.objects.tolist() == [1]


def test_average_precision_is_1_for_all_found_0_for_none_and_counts_what_is_missed() -> None:
    there = objects((0, 0, 10, 10), (20, 20, 40, 40))
    assert matched([found((0, 0, 10, 10), (20, 20, 40, 40))], [there], classes=1).average_precision() == 1
    assert matched([found()], [there], classes=1).average_precision() == 0
    half = matched([found((0, 0, 10, 10))], [there], classes=1).average_precision()
    assert half == pytest.approx(51 / 101)


def test_a_gain_is_the_difference_of_two_average_precisions_and_lies_in_its_interval() -> None:
    there = [objects((0, 0, 10, 10))] * 40
    better = matched([found((0, 0, 10, 10))] * 30 + [found()] * 10, there, classes=1)
    worse = matched([found((0, 0, 10, 10))] * 10 + [found()] * 30, there, classes=1)
    difference, low, high = gain(better, worse)
    assert difference == pytest.approx(0.5, abs=0.02)
    assert 0.2 < low < difference < high < 0.8
    assert gain(better, better) == (0, 0, 0)


def burnt_in(average_precision: float, *, may_teach: bool = True) -> BurntIn:
    return BurntIn(Readiness((0.5,) if may_teach else None, "as the test says"), average_precision)


@pytest.mark.parametrize(
    ("tried", "enough"),
    [
        ([burnt_in(0.5)], False),  # what would a second one gain?
        ([burnt_in(0.5), burnt_in(0.6)], False),
        ([burnt_in(0.5), burnt_in(0.505)], True),
        ([burnt_in(0.5), burnt_in(0.6), burnt_in(0.55)], True),
        ([burnt_in(0.5, may_teach=False), burnt_in(0.505, may_teach=False)], False),
        ([burnt_in(0.5), burnt_in(0.4, may_teach=False)], True),
    ],
)
def test_a_burn_in_is_repeated_until_it_may_teach_and_the_labels_teach_no_more(
    tried: list[BurntIn], enough: bool
) -> None:
    assert burnt_in_enough(tried, BurnIn(gain=0.01)) is enough


def test_the_best_teacher_is_one_that_may_teach() -> None:
    assert best_of([burnt_in(0.5), burnt_in(0.7), burnt_in(0.6)]) == 1
    assert best_of([burnt_in(0.5), burnt_in(0.7, may_teach=False)]) == 0
    assert best_of([burnt_in(0.5, may_teach=False), burnt_in(0.7, may_teach=False)]) == 1
