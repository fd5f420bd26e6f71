"""The score that each class needs, by the precision of a detector's boxes in labelled images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from selftrain.autolabeling.boxes.choosing import LOWEST, Held, least_scores
from selftrain.config import TargetPrecision

NAMES = ("a", "b", "c", "d")


def answered(objects: Sequence[int], junk: Sequence[int], *, low: float = 0.05, high: float = 0.3) -> Held:
    """Every object is found with a score of .6 to .95, and `junk` boxes a class are wrong, of `low` to `high`."""
    rng = np.random.default_rng(0)
    scores, classes, right = [], [], []
    for name, (real, wrong) in enumerate(zip(objects, junk, strict=True)):
        scores += [*rng.uniform(0.6, 0.95, real), *rng.uniform(low, high, wrong)]
        classes += [name] * (real + wrong)
        right += [True] * real + [False] * wrong
    return Held(np.array(scores, np.float32), np.array(classes), np.array(right), np.array(objects))


def chosen(held: Held) -> tuple[list[float], str]:
    """The score of each class for a precision of .95, on a pool like the labelled images, and what is said."""
    names = NAMES[: len(held.objects)]
    pool = held.above(LOWEST)
    least, findings = least_scores(TargetPrecision(target=0.95), names, pool.scores, pool.classes, held)
    return least.tolist(), "\n".join(findings)


@pytest.mark.parametrize("classes", [2, 4])
def test_small_classes_are_judged_together_however_many_low_boxes_they_have(classes: int) -> None:
    """40 objects alone cannot show a precision of .95, which needs 59 right boxes."""
    least, said = chosen(answered([40] * classes, [200] * classes))
    assert all(0.25 < each <= 0.62 for each in least)
    assert "all classes share a threshold" in said


def test_large_classes_are_still_judged_alone() -> None:
    least, said = chosen(answered([100, 100], [0, 200]))
    assert all(0.25 < each <= 0.62 for each in least)
    assert said == ""


def test_a_class_that_nobody_marked_does_not_spoil_the_others() -> None:
    """All its boxes are wrong, and their scores are as high as those of right ones."""
    held = answered([100, 0], [0, 200], low=0.6, high=0.95)
    least, said = chosen(held)
    assert least[0] <= 0.62
    assert least[1] == np.inf
    assert "nothing is accepted as b" in said


def test_classes_that_fail_alone_are_tested_once_more_together() -> None:
    """A wrong box among the best 59 fails a class; among the best 133 of four classes there is none."""
    scores = np.linspace(0.9, 0.5, 400, dtype=np.float32)
    classes, right = np.arange(400) % 4, np.ones(400, bool)
    right[200:204] = False
    held = Held(scores, classes, right, np.array([100] * 4))
    least, said = chosen(held)
    assert np.isfinite(least).all()
    assert "all classes share a threshold" in said


def test_boxes_below_the_lowest_score_are_not_looked_at() -> None:
    plain = answered([40, 40], [0, 0])
    more = answered([40, 40], [200, 200], low=0.0, high=0.049)
    assert chosen(plain)[0] == pytest.approx(chosen(more)[0], abs=0.02)
