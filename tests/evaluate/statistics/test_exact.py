"""Exact bounds: numbers by hand, the binomial tail written out, and who is allowed to ask."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.errors import InputError
from selftrain.evaluate.statistics.exact import fewest_images, lower_bound, upper_bound

counts = st.integers(1, 60).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images)))


def at_least(right: int, images: int, share: float) -> float:
    """The chance of `right` or more right answers of `images`, each right with `share`."""
    return sum(math.comb(images, k) * share**k * (1 - share) ** (images - k) for k in range(right, images + 1))


def test_all_right_is_bounded_by_the_root_of_alpha() -> None:
    assert lower_bound([29], [29])[0] == pytest.approx(0.05 ** (1 / 29))
    assert upper_bound([0], [29])[0] == pytest.approx(1 - 0.05 ** (1 / 29))


def test_nothing_right_and_no_image_say_nothing_from_below() -> None:
    assert lower_bound([0, 0], [10, 0]).tolist() == [0.0, 0.0]
    assert upper_bound([10, 0], [10, 0]).tolist() == [1.0, 1.0]


@given(counts, st.sampled_from([0.01, 0.05, 0.2]))
def test_a_share_at_the_bound_gives_so_many_right_answers_with_probability_alpha(
    shown: tuple[int, int], alpha: float
) -> None:
    right, images = shown
    low = float(lower_bound([right], [images], alpha=alpha)[0])
    if right == 0:
        assert low == 0.0
    else:
        assert at_least(right, images, low) == pytest.approx(alpha, rel=1e-6)


@given(counts)
def test_the_bounds_contain_the_measured_share_and_mirror_each_other(shown: tuple[int, int]) -> None:
    right, images = shown
    low, high = lower_bound([right], [images])[0], upper_bound([right], [images])[0]
    assert low <= right / images <= high
    assert high == pytest.approx(1 - lower_bound([images - right], [images])[0])


@pytest.mark.parametrize(("target", "images"), [(0.5, 5), (0.8, 14), (0.9, 29), (0.95, 59), (0.99, 299)])
def test_so_many_right_answers_reach_a_target_and_one_fewer_does_not(target: float, images: int) -> None:
    assert fewest_images(target) == images
    assert lower_bound([images], [images])[0] >= target
    assert lower_bound([images - 1], [images - 1])[0] < target


@pytest.mark.parametrize("target", [0.0, 1.0, 1.5])
def test_no_number_of_images_shows_certainty(target: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        fewest_images(target)


@pytest.mark.parametrize(("right", "images"), [([2], [1]), ([-1], [1]), ([1, 1], [1])])
def test_what_are_no_counts_is_refused(right: list[int], images: list[int]) -> None:
    with pytest.raises(InputError, match="0 <= right <= images"):
        lower_bound(np.array(right), np.array(images))
