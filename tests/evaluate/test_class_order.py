"""Class order: circles of classes are found, and a weak model is not taken for one in another order."""

import numpy as np
import pytest

from selftrain.errors import PredictionError
from selftrain.evaluate.class_order import explained, interchanged
from selftrain.learn.adoption.preparation import check_better_than_chance


def test_two_of_ten_classes_that_changed_places_are_found_among_noise():
    labels = np.repeat(np.arange(10), 20)
    answers = labels.copy()
    answers[labels == 3], answers[labels == 7] = 7, 3
    wrong = np.random.default_rng(0).permutation(len(labels))[:40]
    answers[wrong] = np.random.default_rng(1).integers(0, 10, 40)
    assert interchanged(answers, labels, 10) == (3, 7)


def test_three_classes_in_a_circle_are_found_and_said():
    labels = np.repeat(np.arange(4), 6)
    circle = interchanged(np.array([1, 2, 0, 3])[labels], labels, 4)
    assert circle == (0, 1, 2)
    assert explained(circle, ("a", "b", "c", "d")) == (
        "most images of 'a' are answered as 'b', and most of 'b' as 'c', and most of 'c' as 'a'"
    )


def test_a_class_that_is_always_taken_for_another_is_no_circle():
    labels = np.repeat(np.arange(3), 10)
    assert interchanged(np.array([1, 1, 2])[labels], labels, 3) == ()


def test_too_few_images_tell_nothing():
    labels = np.repeat([0, 1, 2], [4, 4, 30])
    assert interchanged(np.array([1, 0, 2])[labels], labels, 3) == ()


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_models_that_are_only_weak_are_left_alone(classes):
    generator = np.random.default_rng(classes)
    for _ in range(200):
        labels = np.repeat(np.arange(classes), 8)
        right = generator.random(len(labels)) < 0.4
        answers = np.where(right, labels, generator.integers(0, classes, len(labels)))
        assert interchanged(answers, labels, classes) == ()


def test_a_brought_model_with_two_classes_interchanged_is_refused_though_it_beats_chance():
    names = tuple("abcdefghij")
    labels = np.repeat(np.arange(10), 10)
    answers = labels.copy()
    answers[labels == 0], answers[labels == 1] = 1, 0
    with pytest.raises(
        PredictionError, match=r"right on 80 of 100 .* most images of 'a' are answered as 'b', and most"
    ):
        check_better_than_chance(np.eye(10, dtype=np.float32)[answers], labels, names, called="m.keras")
    assert check_better_than_chance(np.eye(10, dtype=np.float32)[labels], labels, names, called="m.keras") == 1
