"""Distribution alignment: by hand, and what it leaves alone."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.errors import PredictionError
from selftrain.selflabel.selection.alignment import aligned, alignment_ratio


def pool(seed: int, images: int, classes: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), images).astype(np.float32)


def test_the_ratio_is_what_should_come_over_what_is_expected() -> None:
    probs = [[0.9, 0.1], [0.7, 0.3]]
    assert alignment_ratio(probs, [10, 10]).tolist() == pytest.approx([0.5 / 0.8, 0.5 / 0.2])
    assert alignment_ratio(probs, [30, 10]).tolist() == pytest.approx([0.75 / 0.8, 0.25 / 0.2])


def test_a_row_is_multiplied_and_normalised() -> None:
    assert aligned([[0.9, 0.1]], [0.625, 2.5])[0].tolist() == pytest.approx([0.5625 / 0.8125, 0.25 / 0.8125])


def test_a_doubtful_answer_for_a_class_that_comes_too_often_changes_sides() -> None:
    probs = np.float32([[0.95, 0.05], [0.9, 0.1], [0.55, 0.45], [0.6, 0.4]])
    moved = aligned(probs, alignment_ratio(probs, [1, 1]))
    assert probs.argmax(axis=1).tolist() == [0, 0, 0, 0]
    assert moved.argmax(axis=1).tolist() == [0, 0, 1, 1]


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 5))
def test_a_pool_that_is_as_it_should_be_stays(seed: int, images: int, classes: int) -> None:
    probs = pool(seed, images, classes)
    np.testing.assert_allclose(aligned(probs, alignment_ratio(probs, probs.mean(axis=0))), probs, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 5))
def test_aligned_rows_are_probabilities_moved_by_the_ratio(seed: int, images: int, classes: int) -> None:
    probs = pool(seed, images, classes)
    ratio = alignment_ratio(probs, np.arange(1, classes + 1))
    moved = aligned(probs, ratio)
    np.testing.assert_allclose(moved.sum(axis=1), 1, rtol=1e-5)
    naive = [[q * r for q, r in zip(row, ratio, strict=True)] for row in probs.tolist()]
    np.testing.assert_allclose(moved, [[value / sum(row) for value in row] for row in naive], rtol=1e-4, atol=1e-6)


def test_a_class_the_pool_never_expects_stays_without_answers() -> None:
    probs = np.float32([[1.0, 0.0], [1.0, 0.0]])
    assert aligned(probs, alignment_ratio(probs, [1, 1])).tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_an_empty_pool_has_a_ratio_of_one() -> None:
    assert alignment_ratio(np.empty((0, 2), np.float32), [3, 1]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("prior", [[1, 0], [1], [1, 1, 1]])
def test_a_prior_without_a_label_of_each_class_is_refused(prior: list[int]) -> None:
    with pytest.raises(PredictionError, match="at least one training label per class"):
        alignment_ratio([[0.5, 0.5]], prior)
