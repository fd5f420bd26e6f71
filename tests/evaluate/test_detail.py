"""Detailed comparisons: which classes fell, and whose confidence is further from its accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from selftrain.evaluate.detail import CalibrationComparison, compare_in_detail
from selftrain.evaluate.statistics.significance import mcnemar

NAMES = ("cat", "dog", "owl", "yak")
LABELS = np.arange(300) % 3  # no image of a yak


def answers(wrong: dict[int, int], confidence: float = 0.9) -> np.ndarray:
    """Probabilities (300, 4): of the images of class k, the first `wrong[k]` are answered as the next class."""
    said = LABELS.copy()
    for label, count in wrong.items():
        said[np.flatnonzero(label == LABELS)[:count]] = (label + 1) % 3
    return np.where(np.arange(4) == said[:, None], confidence, (1 - confidence) / 3).astype(np.float32)


def test_each_class_has_its_own_paired_test_adjusted_for_all_of_them() -> None:
    found = compare_in_detail(LABELS, answers({0: 8, 1: 5}), answers({1: 25}), class_names=NAMES)
    cat, dog, owl = found.per_class
    assert [each.name for each in found.per_class] == ["cat", "dog", "owl"]
    assert (cat.won, cat.lost, cat.images) == (0, 8, 100)
    assert (dog.won, dog.lost) == (20, 0)
    assert (cat.recall, cat.reference, cat.difference) == pytest.approx((0.92, 1.0, -0.08))
    assert cat.p_value == pytest.approx(2 * mcnemar(0, 8))  # the second smallest of three
    assert dog.p_value == pytest.approx(3 * mcnemar(20, 0))
    assert owl.p_value == 1
    assert [each.fell(0.05) for each in found.per_class] == [True, False, False]
    assert found.overall.difference == pytest.approx(12 / 300)


def test_a_fall_that_is_one_of_many_tests_may_be_chance() -> None:
    found = compare_in_detail(LABELS, answers({0: 7}), answers({}), class_names=NAMES)
    assert mcnemar(0, 7) < 0.05
    assert not compare_in_detail(LABELS, answers({0: 6}), answers({}), class_names=NAMES).per_class[0].fell(0.05)
    assert found.per_class[0].p_value == pytest.approx(3 * mcnemar(0, 7))


def calibration(model: np.ndarray, reference: np.ndarray) -> CalibrationComparison:
    return compare_in_detail(LABELS, model, reference, class_names=NAMES).calibration


def test_a_gap_is_the_mean_confidence_minus_the_accuracy() -> None:
    found = calibration(answers({0: 30}, 0.99), answers({0: 30}, 0.9))
    assert found.gap == pytest.approx(0.09, abs=1e-6)
    assert found.reference_gap == pytest.approx(0.0, abs=1e-6)
    assert found.difference == pytest.approx(0.09, abs=1e-6)
    assert found.difference_interval.low <= found.difference <= found.difference_interval.high
    assert found.difference_interval.low > 0.01


def test_a_model_compared_with_itself_has_no_difference() -> None:
    same = answers({1: 10})
    assert tuple(calibration(same, same).difference_interval) == (0.0, 0.0)


def test_calibrated_models_that_are_sure_to_different_degrees_rarely_look_miscalibrated() -> None:
    """With the binned calibration error this alarm was false in nine simulations of ten."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(50):
        truth = np.zeros(100, np.int64)
        tables = []
        for spread in ((1, 1), (30, 0.6)):  # evenly between .5 and 1, or nearly always sure
            confidence = 0.5 + 0.5 * rng.beta(*spread, len(truth))
            said = np.where(rng.random(len(truth)) < confidence, 0, 1)
            rest = 1 - confidence
            tables.append(np.where(np.arange(2) == said[:, None], confidence[:, None], rest[:, None]))
        found = compare_in_detail(truth, tables[0], tables[1], class_names=("cat", "dog")).calibration
        alarms += found.difference_interval.low > 0.01
    assert alarms <= 5


def test_the_images_of_an_earlier_test_set_have_accuracies_of_their_own() -> None:
    held = np.arange(300) < 150  # 50 of each class, and the wrong answers to cats are among the first
    found = compare_in_detail(LABELS, answers({0: 30}), answers({}), class_names=NAMES, earlier=held)
    assert found.earlier is not None
    assert (found.earlier.images, found.earlier.accuracy, found.earlier.reference) == (150, pytest.approx(0.8), 1.0)
    assert compare_in_detail(LABELS, answers({}), answers({}), class_names=NAMES, earlier=held & False).earlier is None
