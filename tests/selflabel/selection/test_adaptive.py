"""Adaptive rules: FreeMatch and SoftMatch by hand, batch by batch against the closed form, and their limits."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.selflabel.selection.adaptive import (
    AdaptiveState,
    GaussianState,
    adaptive_over_pool,
    class_thresholds,
    fresh_adaptive,
    fresh_gaussian,
    gaussian_over_pool,
    gaussian_weights,
    update_adaptive,
    update_gaussian,
)


def pool(seed: int, images: int, classes: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), images).astype(np.float32)


def test_two_freematch_updates_by_hand() -> None:
    state = update_adaptive(fresh_adaptive(3), [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]], momentum=0.5)
    assert state.level == pytest.approx(0.5 / 3 + 0.5 * 0.65)
    assert state.class_means.tolist() == pytest.approx([0.5 / 3 + 0.2, 0.5 / 3 + 0.25, 0.5 / 3 + 0.05])
    again = update_adaptive(state, [[1.0, 0.0, 0.0]], momentum=0.5)
    assert again.level == pytest.approx(0.5 * state.level + 0.5)
    assert again.class_means[0] == pytest.approx(0.5 * state.class_means[0] + 0.5)


def test_class_thresholds_scale_the_level_by_the_largest_class_mean() -> None:
    state = AdaptiveState(0.9, np.array([0.5, 0.25, 0.1]))
    assert class_thresholds(state).tolist() == pytest.approx([0.9, 0.45, 0.18])


def test_freematch_starts_at_one_over_the_classes() -> None:
    assert class_thresholds(fresh_adaptive(4)).tolist() == [0.25] * 4


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 70),
    st.integers(1, 20),
    st.integers(1, 40),
    st.sampled_from([0, 0.5, 0.9]),
)
def test_the_closed_forms_equal_one_update_after_another(
    seed: int, images: int, batch_size: int, steps: int, momentum: float
) -> None:
    probs = pool(seed, images, 4)
    size = min(batch_size, images)
    batches = [probs[start : start + size] for start in range(0, images - size + 1, size)]
    passes = max(1, math.ceil(steps / len(batches)))
    adaptive, gaussian = fresh_adaptive(4), fresh_gaussian(4)
    for batch in batches * passes:
        adaptive = update_adaptive(adaptive, batch, momentum=momentum)
        gaussian = update_gaussian(gaussian, batch.max(axis=1), momentum=momentum)
    settings = {"momentum": momentum, "batch_size": batch_size, "steps": steps}
    level = adaptive_over_pool(probs, **settings)
    assert level.level == pytest.approx(adaptive.level, rel=1e-5)
    np.testing.assert_allclose(level.class_means, adaptive.class_means, rtol=1e-5)
    closed = gaussian_over_pool(probs.max(axis=1), classes=4, **settings)
    assert closed.mean == pytest.approx(gaussian.mean, rel=1e-5)
    assert closed.variance == pytest.approx(gaussian.variance, rel=1e-5, abs=1e-9)


def test_over_a_pool_the_start_is_forgotten() -> None:
    probs = pool(3, 640, 5)
    state = adaptive_over_pool(probs)
    assert state.level == pytest.approx(float(probs.max(axis=1).mean()), abs=2e-3)
    np.testing.assert_allclose(state.class_means, probs.mean(axis=0), atol=2e-3)


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.integers(2, 6))
def test_no_class_needs_more_than_the_level(seed: int, images: int, classes: int) -> None:
    state = adaptive_over_pool(pool(seed, images, classes))
    thresholds = class_thresholds(state)
    assert thresholds.max() == pytest.approx(state.level)
    assert (thresholds > 0).all()


def test_softmatch_starts_with_variance_one() -> None:
    assert fresh_gaussian(5) == GaussianState(0.2, 1.0)


def test_the_variance_of_a_batch_is_unbiased() -> None:
    state = update_gaussian(GaussianState(0.0, 0.0), [0.5, 0.7, 0.9], momentum=0.0)
    assert (state.mean, state.variance) == (pytest.approx(0.7), pytest.approx(0.04))


def test_a_batch_of_one_has_no_variance() -> None:
    assert update_gaussian(GaussianState(0.5, 1.0), [0.9], momentum=0.5).variance == 0.5


def test_softmatch_weights_by_hand() -> None:
    state = GaussianState(0.8, 0.01)
    printed = gaussian_weights([0.95, 0.8, 0.7, 0.6], state, n_sigma=1.0)
    assert printed.tolist() == pytest.approx([1.0, 1.0, math.exp(-0.5), math.exp(-2.0)], rel=1e-5)
    narrower = gaussian_weights([0.7], state, n_sigma=2.0)
    assert narrower.tolist() == pytest.approx([math.exp(-2.0)], rel=1e-5)


def test_without_spread_all_at_the_mean_count_and_none_below() -> None:
    for variance in (0.0, 5e-324):  # the latter over n_sigma squared is 0
        assert gaussian_weights([0.9, 0.8, 0.7], GaussianState(0.8, variance)).tolist() == [1.0, 1.0, 0.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1), st.floats(1e-6, 1))
def test_a_weight_is_a_share_and_never_falls_with_the_confidence(
    confidence: list[float], mean: float, variance: float
) -> None:
    weights = gaussian_weights(sorted(confidence), GaussianState(mean, variance))
    assert ((weights >= 0) & (weights <= 1)).all()
    assert (np.diff(weights) >= 0).all()
