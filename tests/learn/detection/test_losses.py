"""The loss: who answers for what, and that a perfect answer costs nothing."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from selftrain.learn.detection.losses import Targets, assigned, detection_loss
from selftrain.learn.shapes.boxes import grid
from selftrain.learn.shapes.objects import Objects, packed

pytestmark = pytest.mark.keras

STRIDES, TOPS = (4, 8, 16), (24.0, 48.0, 96.0)
WHERE = grid(64, 64, STRIDES)


def targets(*boxes: tuple[float, ...], ignored: bool = False) -> tuple[np.ndarray, Targets]:
    whole = np.array(boxes, np.float32).reshape(-1, 4)
    objects = Objects.of(whole, np.zeros(len(whole), np.int64), np.full(len(whole), ignored))
    rows = packed([objects], most=6)
    return rows, Targets(*(ops.convert_to_numpy(each) for each in assigned(ops.convert_to_tensor(rows), WHERE, TOPS)))


def answers(rows: np.ndarray, found: Targets, *, sure: float) -> np.ndarray:
    """The answers of a network that knows the boxes, and the classes with a logit of `sure`."""
    out = np.zeros((1, len(WHERE.strides), 5), np.float32)
    out[..., 0] = np.where(found.positive, sure, -sure)
    box, stride = found.objects[0, :, :4], WHERE.strides[:, None]
    out[0, :, 1:3] = ((box[:, :2] + box[:, 2:]) / 2 - WHERE.centres) / stride
    out[0, :, 3:] = np.log(np.maximum(box[:, 2:] - box[:, :2], 1e-3) / stride)
    return out


@pytest.mark.parametrize("side", [2, 10, 30, 62])
def test_every_object_has_locations_at_the_level_of_its_size(side: int) -> None:
    _, found = targets((1, 1, 1 + side, 1 + side))
    at = np.flatnonzero(found.positive[0])
    assert 1 <= len(at) <= 9
    assert set(WHERE.strides[at]) == {4 if side <= 24 else 8 if side <= 48 else 16}


def test_of_two_objects_at_one_place_the_smaller_counts() -> None:
    _, found = targets((10, 10, 30, 30), (14, 14, 26, 26))
    middle = np.flatnonzero((np.abs(WHERE.centres - 20).max(axis=1) < 4) & (WHERE.strides == 4))
    assert (found.objects[0, middle, 0] == 14).all()


def test_a_perfect_answer_costs_nothing_and_an_unsure_one_does() -> None:
    rows, found = targets((10, 12, 22, 24), (30, 5, 60, 45))
    costs = [float(detection_loss(rows, answers(rows, found, sure=sure), WHERE, TOPS)) for sure in (12, 1)]
    assert costs[0] < 1e-4 < 0.1 < costs[1]


def test_nothing_is_learned_inside_an_ignored_box() -> None:
    rows, found = targets((8, 8, 40, 40), ignored=True)
    assert not found.positive.any()
    wrong = np.zeros((1, len(WHERE.strides), 5), np.float32)
    inside = ((WHERE.centres > 8) & (WHERE.centres < 40)).all(axis=1)
    wrong[..., 0] = np.where(inside, 9, -12)
    assert float(detection_loss(rows, wrong, WHERE, TOPS)) < 1e-3
    empty, _ = targets()
    assert float(detection_loss(empty, wrong, WHERE, TOPS)) > 100


def test_images_without_objects_cost_what_is_seen_in_them_and_are_finite() -> None:
    rows, _ = targets()
    quiet, loud = (np.full((1, len(WHERE.strides), 5), value, np.float32) for value in (-9, 3))
    assert float(detection_loss(rows, quiet, WHERE, TOPS)) < 1e-3
    assert np.isfinite(float(detection_loss(rows, loud, WHERE, TOPS)))


def test_the_background_of_unlabelled_views_does_not_weigh_more_because_few_boxes_were_found() -> None:
    """With one pseudo-label beside ten objects, a doubtful background costs the same in both halves."""
    human = packed(
        [Objects.of(np.array([[x, 8, x + 10, 18] for x in range(0, 50, 5)], np.float32), np.zeros(10, int))], most=12
    )
    pseudo = packed([Objects.of(np.array([[8, 8, 18, 18]], np.float32), np.zeros(1, int))], most=12, group=1)
    none = packed([Objects.of(np.zeros((0, 4), np.float32), np.zeros(0, int))], most=12, group=1)
    doubtful = np.full((2, len(WHERE.strides), 5), -1, np.float32)
    with_one, with_none, alone = (
        float(detection_loss(np.concatenate([human, other]), doubtful, WHERE, TOPS)) for other in (pseudo, none, human)
    )
    assert with_none == pytest.approx(with_one, rel=0.5)
    assert with_none < 3 * alone
