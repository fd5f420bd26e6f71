"""Metrics: golden numbers, naive references, and scikit-learn as a second opinion."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from selftrain.errors import PredictionError
from selftrain.evaluate.metrics import (
    accuracy,
    brier_score,
    calibration_bins,
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    macro_f1,
    per_class,
)

LABELS = np.array([0, 1])
PROBS = np.array([[0.5, 0.25, 0.25], [0.75, 0.125, 0.125]])


@st.composite
def scored(draw: st.DrawFn) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Labels (n,) and probabilities (n, classes); every class has a label."""
    classes = draw(st.integers(2, 6))
    images = draw(st.integers(classes, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, images - classes)])
    return labels, rng.dirichlet(np.full(classes, 0.5), size=images).astype(np.float32)


def test_golden_numbers_of_two_images() -> None:
    assert accuracy(LABELS, PROBS) == 0.5
    assert confusion_matrix(LABELS, PROBS).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert macro_f1(LABELS, PROBS) == pytest.approx((2 / 3 + 0) / 2)
    assert log_loss(LABELS, PROBS) == pytest.approx((math.log(2) + math.log(8)) / 2)
    assert brier_score(LABELS, PROBS) == pytest.approx((0.375 + 0.5625 + 0.765625 + 0.015625) / 2)
    assert expected_calibration_error(LABELS, PROBS) == pytest.approx((0.5 + 0.75) / 2)


def test_scores_that_divide_by_nothing_are_undefined() -> None:
    scores = per_class(confusion_matrix(LABELS, PROBS))
    assert scores.support.tolist() == [1, 1, 0]
    np.testing.assert_array_equal(scores.precision, [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(scores.recall, [1.0, 0.0, np.nan])
    np.testing.assert_allclose(scores.f1, [2 / 3, 0.0, np.nan])


@given(scored())
def test_scikit_learn_gives_the_same_numbers(case: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]) -> None:
    labels, probs = case
    predicted = probs.argmax(axis=1)
    one_hot = np.eye(probs.shape[1])[labels]
    exact = probs.astype(np.float64) / probs.sum(axis=1, dtype=np.float64, keepdims=True)
    assert accuracy(labels, probs) == pytest.approx(reference.accuracy_score(labels, predicted))
    assert macro_f1(labels, probs) == pytest.approx(reference.f1_score(labels, predicted, average="macro"))
    np.testing.assert_array_equal(confusion_matrix(labels, probs), reference.confusion_matrix(labels, predicted))
    clipped = np.clip(exact, np.finfo(np.float32).eps, None)
    expected = -np.mean(np.log(clipped[np.arange(len(labels)), labels]))
    assert log_loss(labels, probs) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert brier_score(labels, probs) == pytest.approx(
        np.mean(np.sum((exact - one_hot) ** 2, axis=1)), rel=1e-5, abs=1e-9
    )
    precision, recall, f1, support = reference.precision_recall_fscore_support(labels, predicted, zero_division=0)
    scores = per_class(confusion_matrix(labels, probs))
    np.testing.assert_array_equal(scores.support, support)
    np.testing.assert_allclose(np.nan_to_num(scores.precision), precision)
    np.testing.assert_allclose(scores.recall, recall)
    np.testing.assert_allclose(scores.f1, f1)


@given(scored())
def test_log_loss_is_that_of_scikit_learn(case: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]) -> None:
    labels, probs = case
    mixed = 0.9 * probs.astype(np.float64) + 0.1 / probs.shape[1]
    exact = mixed / mixed.sum(axis=1, keepdims=True)
    assert log_loss(labels, exact) == pytest.approx(reference.log_loss(labels, exact), rel=1e-5)


@given(scored(), st.integers(1, 20))
def test_the_calibration_error_equals_the_sum_written_out(
    case: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]], bins: int
) -> None:
    labels, probs = case
    total = 0.0
    for index in range(bins):
        inside = [
            (float(row.max()), int(row.argmax()) == label)
            for row, label in zip(probs, labels, strict=True)
            if index / bins < float(row.max()) <= (index + 1) / bins
        ]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            right = sum(r for _, r in inside) / len(inside)
            total += len(inside) / len(labels) * abs(right - confidence)
    assert expected_calibration_error(labels, probs, bins=bins) == pytest.approx(total, abs=1e-6)


def test_the_bins_hold_every_image_and_say_where_none_is() -> None:
    bins = calibration_bins([0, 1], [[1.0, 0.0], [0.5, 0.5]], bins=2)
    assert bins.count.tolist() == [1, 1]
    assert bins.confidence.tolist() == [0.5, 1.0]
    assert bins.accuracy.tolist() == [0.0, 1.0]
    assert np.isnan(calibration_bins([0], [[1.0, 0.0]], bins=2).confidence[0])


def test_a_certain_and_wrong_answer_costs_a_finite_loss() -> None:
    assert log_loss([0], [[0.0, 1.0]]) == pytest.approx(15.94, abs=0.01)


def test_a_perfect_model_has_no_error() -> None:
    labels = np.array([0, 1, 2, 1])
    probs = np.eye(3)[labels]
    assert (accuracy(labels, probs), macro_f1(labels, probs)) == (1.0, 1.0)
    assert (log_loss(labels, probs), brier_score(labels, probs)) == (0.0, 0.0)
    assert expected_calibration_error(labels, probs) == 0.0


@pytest.mark.parametrize("measure", [accuracy, macro_f1, log_loss, brier_score, expected_calibration_error])
def test_nan_probabilities_are_never_measured(measure) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PredictionError, match="not finite"):
        measure([0, 1], [[0.5, 0.5], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([0, -1], r"1 labels are not a class index 0\.\.1 \(row 1: -1\)"),
        ([0, 2], r"row 1: 2"),
        ([0], r"shape \(1,\) for 2 images"),
        ([0.0, 1.0], r"type float64"),
    ],
)
def test_labels_that_are_none_are_refused(labels: list[float], complaint: str) -> None:
    with pytest.raises(PredictionError, match=complaint):
        accuracy(labels, [[0.5, 0.5], [0.5, 0.5]])


def test_no_images_are_refused() -> None:
    with pytest.raises(PredictionError, match="no labelled images"):
        accuracy(np.empty(0, np.int64), np.empty((0, 2)))
