"""Boxes: overlap, decoding, and non-maximum suppression against the greedy rule."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from selftrain.learn.shapes.boxes import decoded, generalized_overlap, grid, overlap, suppressed

pytestmark = pytest.mark.keras


def boxes(count: int, *, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low, sides = rng.uniform(0, 60, (count, 2)), rng.uniform(5, 25, (count, 2))
    return np.concatenate([low, low + sides], axis=1).astype(np.float32)


def shared(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union by counting quarter pixels."""
    marks = np.zeros((2, 400, 400), bool)
    for mark, (x0, y0, x1, y1) in zip(marks, np.rint([one * 4, other * 4]).astype(int), strict=True):
        mark[y0:y1, x0:x1] = True
    return float((marks[0] & marks[1]).sum() / (marks[0] | marks[1]).sum())


def test_overlap_is_the_share_of_pixels_that_both_cover() -> None:
    some, others = np.rint(boxes(20, seed=1) * 4) / 4, np.rint(boxes(20, seed=2) * 4) / 4
    found = ops.convert_to_numpy(overlap(some.astype(np.float32), others.astype(np.float32)))
    np.testing.assert_allclose(found, [shared(a, b) for a, b in zip(some, others, strict=True)], atol=1e-5)


def test_generalized_overlap_is_negative_for_boxes_apart_and_falls_with_the_distance() -> None:
    here = np.array([[0, 0, 10, 10]], np.float32)
    near, far = (here + np.array([away, 0, away, 0]) for away in (12, 40))
    values = [float(generalized_overlap(here, other.astype(np.float32))[0]) for other in (here, near, far)]
    assert values[0] == pytest.approx(1.0)
    assert 0 > values[1] > values[2]


def test_a_location_per_cell_of_every_level_in_rows() -> None:
    where = grid(32, 64, (8, 16))
    assert len(where.strides) == 4 * 8 + 2 * 4
    assert where.centres[:2].tolist() == [[4, 4], [12, 4]]
    assert where.centres[32:34].tolist() == [[8, 8], [24, 8]]


def test_an_answer_is_read_in_strides_from_its_location() -> None:
    where = grid(16, 16, (8,))
    answers = np.zeros((1, 4, 4), np.float32)
    answers[0, 3] = [0.5, -0.25, np.log(2), np.log(0.5)]
    read = ops.convert_to_numpy(decoded(answers, where))[0, 3]
    np.testing.assert_allclose(read, [16 - 8, 10 - 2, 16 + 8, 10 + 2], rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_suppression_keeps_what_the_greedy_rule_keeps(seed: int) -> None:
    crowd = boxes(120, seed=seed)
    near = ops.convert_to_numpy(overlap(crowd[:, None], crowd[None])) > 0.5
    kept = np.ones(len(crowd), bool)
    for row in range(len(crowd)):
        kept[row] = not (near[row, :row] & kept[:row]).any()
    found = ops.convert_to_numpy(suppressed(crowd[None], threshold=0.5))[0]
    assert found.tolist() == kept.tolist()
