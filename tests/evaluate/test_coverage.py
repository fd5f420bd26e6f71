"""Coverage and precision: golden counts, the naive count of every cut-off, and what the curve must never do."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.errors import PredictionError
from selftrain.evaluate.coverage import (
    CoverageCurve,
    HeldOut,
    MeasuredPrecision,
    candidate_cutoffs,
    counts_above,
    coverage_curve,
)
from selftrain.evaluate.statistics.exact import lower_bound


def answers(confidence: list[float], right: list[bool]) -> HeldOut:
    """Answers of two classes, all of them for the first, with these confidences (above 0.5)."""
    sure = np.float32(confidence)
    return HeldOut(np.stack([sure, 1 - sure], axis=1), np.where(right, 0, 1))


def confidences(seed: int, images: int) -> npt.NDArray[np.float32]:
    """Confidences with ties, some of them 1."""
    return (np.random.default_rng(seed).integers(10, 21, images) / 20).astype(np.float32)


def test_held_out_answers_know_confidence_prediction_and_right() -> None:
    held = HeldOut(np.float32([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]))
    assert held.confidence.tolist() == pytest.approx([0.9, 0.6])
    assert held.predicted.tolist() == [0, 1]
    assert held.right.tolist() == [True, False]
    assert len(held) == 2


@pytest.mark.parametrize("labels", [[], [0], [0, 2], [0, -1]])
def test_held_out_labels_that_are_none_are_refused(labels: list[int]) -> None:
    with pytest.raises(PredictionError):
        HeldOut(np.float32([[0.9, 0.1], [0.4, 0.6]]), np.array(labels, np.int64))


def test_the_candidates_are_shares_of_the_pool_from_the_surest_down() -> None:
    pool = np.arange(1, 201) / 200
    cutoffs = candidate_cutoffs(pool)
    assert len(cutoffs) == 100
    np.testing.assert_allclose(cutoffs[[0, 1, -1]], [199 / 200, 197 / 200, 1 / 200], rtol=1e-6)


def test_a_pile_of_equal_confidences_is_one_candidate() -> None:
    assert candidate_cutoffs([1.0] * 90 + [0.5] * 10).tolist() == [1.0, 0.5]


def test_an_empty_pool_has_no_candidate() -> None:
    assert candidate_cutoffs([]).tolist() == []
    empty = coverage_curve([], answers([0.9], [True]))
    assert empty.table().num_rows == 0


def test_the_golden_curve() -> None:
    held = answers([0.9, 0.8, 0.7, 0.6], [True, True, False, True])
    curve = coverage_curve([0.9, 0.8, 0.7, 0.5], held)
    assert curve.cutoffs == pytest.approx((0.9, 0.8, 0.7, 0.5))
    assert (curve.pool, curve.held_out) == (4, 4)
    assert curve.accepted == (1, 2, 3, 4)
    assert curve.images == (1, 2, 3, 4)
    assert curve.right == (1, 2, 2, 3)
    table = curve.table()
    assert table["coverage"].to_pylist() == [0.25, 0.5, 0.75, 1.0]
    assert table["precision"].to_pylist() == pytest.approx([1.0, 1.0, 2 / 3, 0.75])
    assert table["low"].to_pylist() == pytest.approx(lower_bound([1, 2, 2, 3], [1, 2, 3, 4]).tolist())


def test_a_cutoff_above_all_held_out_answers_has_no_precision() -> None:
    table = coverage_curve([0.99, 0.5], answers([0.6], [True])).table()
    assert math.isnan(table["precision"][0].as_py())
    assert (table["low"][0].as_py(), table["high"][0].as_py()) == (0.0, 1.0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(1, 40))
def test_every_count_equals_counting(seed: int, pool_images: int, held_images: int) -> None:
    pool = confidences(seed, pool_images)
    right = np.random.default_rng(seed).random(held_images) < 0.7
    held = answers(confidences(seed + 1, held_images).tolist(), right.tolist())
    curve = coverage_curve(pool, held)
    for cutoff, accepted, images, correct in zip(curve.cutoffs, curve.accepted, curve.images, curve.right, strict=True):
        assert accepted == sum(each >= cutoff for each in pool.tolist())
        assert images == sum(each >= cutoff for each in held.confidence.tolist())
        assert correct == sum(each >= cutoff and ok for each, ok in zip(held.confidence, held.right, strict=True))
    assert list(curve.accepted) == sorted(set(curve.accepted))
    assert curve.accepted[-1] == pool_images


def test_the_curve_survives_json() -> None:
    curve = coverage_curve([0.9, 0.8], answers([0.95, 0.6], [True, False]))
    assert CoverageCurve.model_validate_json(curve.model_dump_json()) == curve


def test_a_measured_rule_has_coverage_precision_and_interval() -> None:
    rule = MeasuredPrecision(accepted=30, pool=120, images=29, right=29)
    assert (rule.coverage, rule.precision) == (0.25, 1.0)
    assert rule.interval == pytest.approx((0.05 ** (1 / 29), 1.0))


def test_a_rule_that_accepts_nothing_has_no_precision() -> None:
    rule = MeasuredPrecision(accepted=0, pool=0, images=0, right=0)
    assert (rule.coverage, rule.precision, rule.interval) == (0.0, None, (0.0, 1.0))


def test_a_million_confidences_are_counted_without_a_loop() -> None:
    pool = np.random.default_rng(0).random(1_000_000).astype(np.float32)
    cutoffs = candidate_cutoffs(pool)
    assert counts_above(pool, cutoffs).tolist() == [int((pool >= cutoff).sum()) for cutoff in cutoffs]
