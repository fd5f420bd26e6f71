"""McNemar's exact test against the binomial sum written out."""

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.errors import InputError
from selftrain.evaluate.significance import mcnemar


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
