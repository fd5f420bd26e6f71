"""The range test on a loss whose right rates are known, and on curves drawn by hand."""

import math

import numpy as np
import pytest

from selftrain.errors import TrainingDivergedError
from selftrain.learn.rate_range import range_test, suggested


def descend(curvature: float, *, noise: float = 0.0, seed: int = 0):
    """Gradient descent on curvature / 2 * |w|^2, which every rate below 2 / curvature makes smaller."""
    rng = np.random.default_rng(seed)
    w = np.ones(20)

    def step(rate: float) -> float:
        nonlocal w
        loss = float(curvature / 2 * (w**2).sum())
        w = w - rate * (curvature * w + noise * rng.normal(size=20))
        return loss

    return step


@pytest.mark.parametrize("curvature", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_the_rate_found_for_a_quadratic_is_within_what_makes_it_fall(curvature: float, noise: float) -> None:
    found = range_test(descend(curvature, noise=noise * curvature), low=1e-6, high=1e4, steps=200)
    assert 0.005 / curvature < found.suggestion < 2 / curvature


def test_the_test_stops_when_the_loss_explodes() -> None:
    found = range_test(descend(1.0), low=1e-3, high=1e6, steps=300)
    assert len(found.losses) < 300
    assert found.rates[-1] < 1e3
    assert len(found.rates) == len(found.losses) == len(found.smooth)


def test_a_loss_that_is_not_finite_ends_the_test_and_is_no_loss() -> None:
    losses = iter([*np.linspace(2, 1, 30), float("nan")])
    found = range_test(lambda rate: next(losses), steps=100)
    assert len(found.losses) == 30
    assert np.isfinite(found.smooth).all()
    with pytest.raises(TrainingDivergedError, match="for 0 steps only, at rates from"):
        range_test(lambda rate: math.inf, steps=100)


def test_the_steepest_point_of_the_longest_valley_is_chosen() -> None:
    rates = np.geomspace(1e-5, 1e-1, 9)
    bumpy = np.array([3.0, 2.0, 3.5, 3.4, 3.3, 2.5, 1.5, 1.4, 6.0])
    assert suggested(rates, bumpy) == pytest.approx(rates[5])  # the drop from 3.0 to 2.0 is no valley


def test_the_averaged_loss_is_unbiased_from_the_first_step() -> None:
    found = range_test(lambda rate: 2.5, steps=20)
    np.testing.assert_allclose(found.smooth, 2.5)
