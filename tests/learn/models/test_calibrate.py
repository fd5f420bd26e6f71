"""Temperature scaling, and the precision of a confidence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from selftrain.errors import PredictionError
from selftrain.learn.models.calibrate import (
    cross_fitted_probs,
    fit_precision,
    fit_temperature,
    negative_log_likelihood,
    softmax,
)


def sharpened(n: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels were drawn at temperature 1, then multiplied by `factor`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4)) * 2
    labels = np.array([rng.choice(4, p=row / row.sum()) for row in softmax(logits).astype(np.float64)])
    return logits * factor, labels


def test_the_temperature_undoes_overconfidence() -> None:
    assert fit_temperature(*sharpened(4000, 3.0)) == pytest.approx(3.0, rel=0.1)


def test_the_temperature_is_where_the_naive_search_finds_it() -> None:
    logits, labels = sharpened(300, 2.0)
    grid = np.exp(np.linspace(-2, 2, 2001))
    naive = [-np.mean(np.log(softmax(logits, t)[np.arange(300), labels])) for t in grid]
    assert fit_temperature(logits, labels) == pytest.approx(grid[int(np.argmin(naive))], rel=0.01)


@pytest.mark.parametrize("images", [10, 100, 1000])
@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_without_an_error_the_confidence_is_what_so_many_right_answers_bear_out(images: int, factor: float) -> None:
    logits, labels = np.eye(4)[np.arange(images) % 4] * 6 * factor, np.arange(images) % 4
    temperature = fit_temperature(logits, labels)
    assert softmax(logits, temperature).max(axis=1) == pytest.approx((images + 1) / (images + 2), abs=1e-4)


@given(st.integers(0, 40), st.integers(4, 60))
def test_right_answers_alone_give_a_temperature_inside_its_bounds(seed: int, images: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(images, 4)) * 2
    labels = logits.argmax(axis=1)
    temperature = fit_temperature(logits, labels)
    assert 0.06 < temperature < 19
    assert softmax(logits, temperature).max(axis=1).mean() < (images + 1) / (images + 2) + 0.01


@pytest.mark.parametrize("factor", [0.01, 1000.0, 1e5])
@pytest.mark.parametrize("errors", [True, False])
def test_logits_times_any_factor_give_the_same_probabilities(factor: float, errors: bool) -> None:
    logits, labels = sharpened(200, 2.0)
    labels = labels if errors else logits.argmax(axis=1)
    temperature = fit_temperature(logits * factor, labels)
    assert temperature == pytest.approx(factor * fit_temperature(logits, labels))
    probs = softmax(logits, fit_temperature(logits, labels))
    np.testing.assert_allclose(softmax(logits * factor, temperature), probs, rtol=1e-4)
    np.testing.assert_allclose(
        cross_fitted_probs(logits * factor, labels), cross_fitted_probs(logits, labels), rtol=1e-4
    )


@pytest.mark.parametrize("at", [0.0, 0.1, -7e9])
def test_images_whose_logits_are_all_equal_leave_the_temperature_to_the_others(at: float) -> None:
    equal = np.full((5, 3), at)
    assert fit_temperature(equal, np.zeros(5, np.int64)) == 1.0
    logits, labels = np.vstack([equal, [[3.0, 0.0, 0.0]] * 3]), np.array([0] * 7 + [1])
    temperature = fit_temperature(logits, labels)
    assert softmax(logits, temperature)[-1, 0] == pytest.approx(2 / 3, abs=1e-3)


@pytest.mark.parametrize("logits", [np.full((4, 3), 2.0), np.array([[1e6, 0.0, 0.0]] + [[2.0, 0.0, 0.0]] * 9)])
def test_a_temperature_is_a_number_above_zero_for_every_spread(logits: np.ndarray) -> None:
    labels = np.zeros(len(logits), np.int64)
    assert np.isfinite(softmax(logits, fit_temperature(logits, labels))).all()
    assert 0 < fit_temperature(logits, labels) < 1e3


def test_one_error_is_fitted_by_the_likelihood_alone() -> None:
    logits = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    temperature = fit_temperature(logits, np.array([0, 0, 0, 1]))
    assert softmax(logits, temperature)[:, 0] == pytest.approx(0.75, abs=1e-4)


def test_golden_negative_log_likelihood() -> None:
    logits = np.log(np.array([[0.25, 0.75], [0.5, 0.5]]))
    assert negative_log_likelihood(logits, np.array([1, 0]), 1.0) == pytest.approx((-np.log(0.75) + np.log(2)) / 2)


@given(st.integers(0, 40), st.floats(0.1, 10))
def test_a_temperature_changes_no_decision(seed: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).normal(size=(20, 5))
    probs = softmax(logits, temperature)
    assert (probs.argmax(axis=1) == logits.argmax(axis=1)).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)


def test_large_logits_do_not_overflow() -> None:
    assert softmax(np.array([[1e4, -1e4]])).tolist() == [[1.0, 0.0]]


def test_no_row_is_calibrated_by_itself() -> None:
    logits, labels = sharpened(40, 2.0)
    changed = labels.copy()
    changed[7] = (labels[7] + 1) % 4
    before, after = cross_fitted_probs(logits, labels, seed=1), cross_fitted_probs(logits, changed, seed=1)
    np.testing.assert_array_equal(before[7], after[7])
    assert np.abs(before - after).max() > 0


def test_too_few_rows_are_left_at_temperature_one() -> None:
    logits, labels = sharpened(3, 2.0)
    np.testing.assert_array_equal(cross_fitted_probs(logits, labels), softmax(logits))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_not_finite_say_how_to_train_again(bad: float) -> None:
    with pytest.raises(PredictionError, match=r"logits of 1 of 2 images are NaN or infinite: .* lower learning_rate"):
        fit_temperature(np.array([[bad, 0.0], [1.0, 0.0]]), np.array([0, 0]))
    with pytest.raises(PredictionError, match="confidences of 1 of 2 images"):
        fit_precision(np.array([bad, 0.5]), np.array([True, False]))


def test_a_temperature_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        fit_temperature(np.empty((0, 2)), np.empty(0, np.int64))


def test_precision_pools_neighbours_that_fall() -> None:
    curve = fit_precision(np.array([0.5, 0.6, 0.7, 0.8]), np.array([False, True, False, True]))
    assert curve.at(np.array([0.5, 0.6, 0.7, 0.8])).tolist() == [0.0, 0.5, 0.5, 1.0]


def test_answers_of_one_confidence_are_one_point_of_the_precision() -> None:
    curve = fit_precision(np.full(4, 0.9), np.array([True, True, True, False]))
    assert curve.at(np.array([0.1, 0.9, 1.0])).tolist() == [0.75, 0.75, 0.75]


@given(st.integers(0, 200), st.integers(1, 60))
def test_precision_equals_scikit_learns_isotonic_regression(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    confidence, right = rng.integers(10, 20, images) / 20, rng.random(images) < 0.7
    naive = IsotonicRegression(out_of_bounds="clip").fit(confidence, right)
    asked = np.linspace(0, 1, 41)
    np.testing.assert_allclose(fit_precision(confidence, right).at(asked), naive.predict(asked), atol=1e-6)


def test_a_precision_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        fit_precision(np.empty(0), np.empty(0, np.bool_))
