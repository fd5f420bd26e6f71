"""When a model is better than chance: by the lower bound of its accuracy, and by how much chance gives."""

from __future__ import annotations

import numpy as np
import pytest

from selftrain.learn.adoption.preparation import is_better_than_chance


@pytest.mark.parametrize(
    ("classes", "count", "right", "better"),
    [
        (200, 5_000, 489, True),  # 9.8 % of what chance gets right in .5 %
        (10, 5_000, 856, False),  # 17 % of ten classes is a guess, if a good one
        (10, 5_000, 2_000, True),
        (10, 20, 4, False),
    ],
)
def test_an_accuracy_counts_beside_what_chance_gives(classes: int, count: int, right: int, better: bool) -> None:
    place = np.arange(count)
    labels = place % classes
    wrong = (labels + 1 + place // classes % (classes - 1)) % classes
    answers = np.where(place < right, labels, wrong)
    assert (answers == labels).sum() == right
    assert is_better_than_chance(answers, labels, classes) is better


def test_a_model_that_always_answers_the_largest_class_is_not_better() -> None:
    labels = np.repeat([0, 1], [950, 50])
    assert not is_better_than_chance(np.zeros_like(labels), labels, 2)
