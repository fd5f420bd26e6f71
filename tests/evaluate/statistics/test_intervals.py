"""Intervals: published numbers, other libraries' numbers, and the coverage that is promised."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from selftrain.errors import InputError
from selftrain.evaluate.statistics.intervals import paired_difference, wilson


@given(st.integers(1, 5000), st.data(), st.sampled_from([0.01, 0.05, 0.32]))
def test_wilson_is_that_of_scipy(images: int, data: st.DataObject, alpha: float) -> None:
    successes = data.draw(st.integers(0, images))
    expected = binomtest(successes, images).proportion_ci(confidence_level=1 - alpha, method="wilson")
    assert wilson(successes, images, alpha=alpha) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("successes", "images", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_published_ends(successes: int, images: int, low: float, high: float) -> None:
    assert wilson(successes, images) == pytest.approx((low, high), abs=5e-5)


def test_a_perfect_share_reaches_one() -> None:
    assert wilson(20, 20).high == 1.0
    assert wilson(0, 20).low == 0.0


@pytest.mark.parametrize(("successes", "images"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_that_is_none_is_refused(successes: int, images: int) -> None:
    with pytest.raises(InputError, match="is not a share"):
        wilson(successes, images)


def test_the_paired_interval_gives_published_ends() -> None:
    newcombe = paired_difference(both=36, only_first=12, only_second=2, neither=0)
    bentur = paired_difference(both=1, only_first=1, only_second=7, neither=12)
    assert newcombe == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert bentur == pytest.approx((-0.507, -0.026), abs=5e-4)


counts = st.tuples(*[st.integers(0, 300)] * 4).filter(lambda four: sum(four) > 0)


def method_10(r: int, s: int, t: int, u: int) -> tuple[float, float]:
    """Newcombe's method 10 in the letters of his paper."""
    n = r + s + t + u
    (l1, u1), (l2, u2) = wilson(r + s, n), wilson(r + t, n)
    p1, p2 = (r + s) / n, (r + t) / n
    a, b = (r + s) * (t + u) * (r + t) * (s + u), r * u - s * t
    if b > n / 2:
        c = b - n / 2
    elif b >= 0:
        c = 0
    else:
        c = b
    phi = c / a**0.5 if a else 0
    delta = ((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2) ** 0.5
    epsilon = ((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2) ** 0.5
    return p1 - p2 - delta, p1 - p2 + epsilon


@given(counts)
def test_the_paired_interval_equals_the_paper_written_out(four: tuple[int, int, int, int]) -> None:
    both, first, second, neither = four
    got = paired_difference(both=both, only_first=first, only_second=second, neither=neither)
    assert got == pytest.approx(method_10(*four), abs=1e-9)


@given(counts)
def test_the_paired_interval_holds_the_difference_and_mirrors(four: tuple[int, int, int, int]) -> None:
    both, first, second, neither = four
    low, high = paired_difference(both=both, only_first=first, only_second=second, neither=neither)
    other_low, other_high = paired_difference(both=both, only_first=second, only_second=first, neither=neither)
    assert -1 <= low <= (first - second) / sum(four) <= high <= 1
    assert (other_low, other_high) == pytest.approx((-high, -low), abs=1e-9)


def test_the_paired_interval_narrows_when_the_models_agree_on_which_are_hard() -> None:
    agreeing = paired_difference(both=370, only_first=12, only_second=2, neither=16)
    apart = paired_difference(both=354, only_first=28, only_second=18, neither=0)
    assert agreeing.high - agreeing.low < apart.high - apart.low


def test_the_paired_interval_covers_the_truth_as_often_as_it_promises() -> None:
    shares = (0.90, 0.06, 0.02, 0.02)
    samples = np.random.default_rng(0).multinomial(400, shares, size=2000)
    covered = 0
    for both, first, second, neither in samples.tolist():
        low, high = paired_difference(both=both, only_first=first, only_second=second, neither=neither)
        covered += low <= shares[1] - shares[2] <= high
    assert 0.94 <= covered / len(samples) <= 0.97
