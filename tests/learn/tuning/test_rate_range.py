"""The range test on a loss whose right rates are known, and on curves drawn by hand."""

import contextlib
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.errors import NoFallError, TrainingDivergedError
from selftrain.learn.tuning.rate_range import range_test, suggested


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


def test_golden_the_steepest_point_of_the_decade_below_the_lowest_average_is_chosen() -> None:
    rates = np.geomspace(1e-6, 1e-2, 13)  # three a decade; the drop from 4.0 to 3.0 is far below
    losses = np.array([4.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 2.9, 2.5, 1.4, 1.3, 6.0])
    assert suggested(rates, losses, losses, memory=1) == pytest.approx(rates[9])


def noisy(rates: np.ndarray, seed: int, *, fall: float) -> np.ndarray:
    """A loss that falls by `fall` around 1e-3, rises above 3e-2, and begins with a batch that is high by chance."""
    at = np.log10(rates)
    losses = 2.4 - fall / (1 + np.exp(-4 * (at + 3))) + 6 * np.maximum(0, at + 1.5) ** 2
    losses = losses + 0.15 * np.random.default_rng(seed).normal(size=len(rates))
    losses[0] += 0.5
    return losses


def replaying(losses: np.ndarray) -> Callable[[float], float]:
    """A step that has these losses, whatever the rate."""
    coming = iter(losses.tolist())
    return lambda _: next(coming)


@pytest.mark.parametrize("steps", [30, 100, 200])
def test_a_noisy_loss_with_a_valley_suggests_a_rate_within_it(steps: int) -> None:
    rates = np.geomspace(1e-6, 1.0, steps)
    for seed in range(30):
        found = range_test(replaying(noisy(rates, seed, fall=1.2)), steps=steps)
        assert 1e-3 < found.suggestion < 3e-2
        lowest = found.rates[found.smooth[steps // 10 :].argmin() + steps // 10]
        assert lowest / 10 * 0.999 <= found.suggestion < lowest


@given(st.integers(0, 10**6), st.integers(10, 120), st.floats(0, 1))
def test_a_suggestion_is_never_at_the_edge_of_the_range(seed: int, steps: int, fall: float) -> None:
    rates = np.geomspace(1e-6, 1.0, steps)
    step = replaying(np.abs(noisy(rates, seed, fall=fall)))
    with contextlib.suppress(NoFallError):
        assert 1e-5 < range_test(step, steps=steps).suggestion < 1.0


def test_a_loss_that_falls_by_chance_alone_suggests_no_rate() -> None:
    refused = 0
    for seed in range(100):
        with contextlib.suppress(NoFallError):
            range_test(replaying(2.4 + 0.3 * np.random.default_rng(seed).normal(size=100)))
            continue
        refused += 1
    assert refused >= 95


def test_a_loss_that_soon_explodes_suggests_no_rate() -> None:
    losses = iter([*np.linspace(2, 1.9, 12), math.inf])
    with pytest.raises(NoFallError, match=r"1\.0e-06 to 1\.2e-06 lowers .* keep your rate, or test"):
        range_test(lambda rate: next(losses), steps=1000)


def test_the_averaged_loss_is_unbiased_from_the_first_step() -> None:
    losses = iter([*[2.5] * 60, *[1.5] * 40])
    found = range_test(lambda rate: next(losses))
    np.testing.assert_allclose(found.smooth[:60], 2.5)
