"""McNemar's exact test against the binomial sum written out, and Holm's method against its definition."""

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.errors import InputError
from selftrain.evaluate.statistics.significance import holm, mcnemar


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_p_value_is_the_binomial_sum(a: int, b: int) -> None:
    total = a + b
    tail = sum(comb(total, k) for k in range(min(a, b) + 1)) / 2**total
    assert mcnemar(a, b) == pytest.approx(min(1.0, 2 * tail))


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_which_model_comes_first_does_not_matter(a: int, b: int) -> None:
    assert mcnemar(a, b) == pytest.approx(mcnemar(b, a))
    assert 0.0 <= mcnemar(a, b) <= 1.0


def test_five_images_cannot_be_significant_and_six_can() -> None:
    assert mcnemar(5, 0) == pytest.approx(0.0625)
    assert mcnemar(6, 0) == pytest.approx(0.03125)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(InputError, match="are not counts"):
        mcnemar(-1, 2)


@given(st.lists(st.floats(0, 1), max_size=6), st.floats(0.001, 0.5))
def test_holm_rejects_what_stepping_down_rejects(p_values: list[float], alpha: float) -> None:
    rejected = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        if not min(1.0, (len(p_values) - rank) * p_values[index]) < alpha:
            break
        rejected.add(index)
    assert {index for index, p in enumerate(holm(p_values)) if p < alpha} == rejected


def test_holm_keeps_the_order_of_the_tests_and_one_test_as_it_is() -> None:
    assert holm([0.5, 0.01, 0.02]) == pytest.approx([0.5, 0.03, 0.04])
    assert holm([0.04]) == [0.04]
    assert holm([]) == []
