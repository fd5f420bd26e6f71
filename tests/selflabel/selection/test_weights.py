"""Weights: measured precision, SoftMatch over a pool, and copies of rare classes as weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.errors import ConfigError
from selftrain.evaluate.coverage import HeldOut
from selftrain.selflabel.selection.adaptive import fresh_gaussian, gaussian_weights, update_gaussian
from selftrain.selflabel.selection.weights import by_precision, by_softmatch, repeats


def answers(confidence: list[float], right: list[bool]) -> HeldOut:
    sure = np.float32(confidence)
    return HeldOut(np.stack([sure, 1 - sure], axis=1), np.where(right, 0, 1))


def test_a_weight_is_how_often_answers_of_that_confidence_are_right() -> None:
    held = answers([0.6, 0.6, 0.9, 0.9], [True, False, True, True])
    assert by_precision(np.float32([0.55, 0.6, 0.75, 0.9, 1.0]), held).tolist() == [0.5, 0.5, 0.75, 1.0, 1.0]


def test_without_held_out_labels_there_is_no_precision() -> None:
    with pytest.raises(ConfigError, match="needs held-out human labels"):
        by_precision(np.float32([0.9]), None)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_a_precision_weight_is_a_share_and_never_falls(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, images)
    held = answers(confidence.tolist(), (rng.random(images) < confidence).tolist())
    weights = by_precision(np.linspace(0, 1, 101, dtype=np.float32), held)
    assert ((weights >= 0) & (weights <= 1)).all()
    assert (np.diff(weights) >= -1e-6).all()


def test_softmatch_takes_mean_and_variance_from_the_pool() -> None:
    confidence = np.random.default_rng(1).uniform(0.5, 1, 64).astype(np.float32)
    state = fresh_gaussian(3)
    for _ in range(10_000):
        state = update_gaussian(state, confidence)
    np.testing.assert_allclose(by_softmatch(confidence, classes=3), gaussian_weights(confidence, state), atol=1e-5)
    assert by_softmatch(confidence, classes=3).max() == 1.0


def test_an_empty_pool_has_no_weights() -> None:
    empty = np.empty(0, np.float32)
    assert by_softmatch(empty, classes=3).size == 0
    assert repeats(np.empty(0, np.int64), np.empty(0, np.bool_), per_class=None, at_most=3).size == 0


def test_rare_classes_count_as_much_as_the_largest_up_to_the_cap() -> None:
    labels = np.repeat([0, 1, 2, 3], [12, 6, 2, 1])
    copies = repeats(labels, np.ones(21, np.bool_), per_class=None, at_most=4)
    assert [copies[labels == label][0] for label in range(4)] == [1.0, 2.0, 4.0, 4.0]


def test_a_quota_says_how_many_a_class_is_filled_up_to() -> None:
    labels = np.repeat([0, 1], [12, 6])
    copies = repeats(labels, np.ones(18, np.bool_), per_class=9, at_most=4)
    assert (copies[0], copies[-1]) == (1.0, 1.5)


def test_rejected_images_do_not_count_as_their_class() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    kept = np.array([True, True, True, True, True, False])
    assert repeats(labels, kept, per_class=None, at_most=10)[4] == 4.0


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 5))
def test_no_image_counts_for_less_than_itself_or_more_than_the_cap(labels: list[int], at_most: int) -> None:
    predicted = np.array(labels)
    copies = repeats(predicted, np.ones(len(labels), np.bool_), per_class=None, at_most=at_most)
    assert ((copies >= 1) & (copies <= at_most)).all()
    per_class = np.bincount(predicted, weights=copies)
    assert per_class.max() == pytest.approx(np.bincount(predicted).max())
