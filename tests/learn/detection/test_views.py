"""Views: pixels and boxes are moved by one draw, and a strong view moves nothing."""

from __future__ import annotations

import numpy as np
import pytest

from selftrain.learn.detection.scenes import Scenes, ahead, views_of
from selftrain.learn.detection.views import Moves, drawn, moved, seen, strong
from selftrain.learn.shapes.objects import IGNORED, OBJECT, Objects, packed

BLACK = np.zeros((90, 120, 3), np.uint8)


def with_box(x0: int, y0: int, x1: int, y1: int) -> tuple[np.ndarray, Objects]:
    """A black image with one white rectangle, and its object."""
    image = BLACK.copy()
    image[y0:y1, x0:x1] = 255
    return image, Objects.of(np.array([[x0, y0, x1, y1]], np.float32), np.array([0]))


@pytest.mark.parametrize(
    "moves",
    [
        Moves(1, 1, mirror=False),
        Moves(0.5, 2, mirror=False),
        Moves(1, 1, mirror=True),
        Moves(1, 1, mirror=False, turns=True),
        Moves(0.7, 1.4, mirror=True, turns=True),
    ],
)
def test_the_box_of_a_view_is_where_its_pixels_are(moves: Moves) -> None:
    image, objects = with_box(40, 30, 70, 50)
    for seed in range(20):
        matrix = drawn(np.random.default_rng(seed), moves, *image.shape[:2], 64)
        white = np.argwhere(seen(image, matrix, 64)[..., 0] > 150)
        view = moved(objects, matrix, 64)
        if len(view) and not view.ignored[0]:
            edges = [white[:, 1].min(), white[:, 0].min(), white[:, 1].max() + 1, white[:, 0].max() + 1]
            np.testing.assert_allclose(view.boxes[0], edges, atol=1.01)


def test_a_leaning_rectangle_lies_in_its_box_and_touches_all_its_sides() -> None:
    image, objects = with_box(50, 35, 70, 55)
    for seed in range(20):
        matrix = drawn(np.random.default_rng(seed), Moves(1, 1, mirror=False, shear=0.4), 90, 120, 90)
        view = moved(objects, matrix, 90)
        white = np.argwhere(seen(image, matrix, 90)[..., 0] > 150)
        if len(view) and np.all((view.boxes > 1) & (view.boxes < 89)):
            edges = [white[:, 1].min(), white[:, 0].min(), white[:, 1].max() + 1, white[:, 0].max() + 1]
            np.testing.assert_allclose(view.boxes[0], edges, atol=1.6)


def test_what_a_view_cuts_away_is_left_out_and_what_is_too_small_is_ignored() -> None:
    objects = Objects.of(
        np.array([[-18, 10, 2, 20], [10, 10, 30, 20], [40, 40, 41.5, 60]], np.float32), np.array([0, 1, 2])
    )
    view = moved(objects, np.array([[1.0, 0, 0], [0, 1, 0]]), 64)
    assert view.classes.tolist() == [1, 2]
    assert view.ignored.tolist() == [False, True]


def test_an_ignored_box_stays_however_little_of_it_is_seen() -> None:
    crowd = Objects.of(np.array([[-100, -100, 5, 5]], np.float32), np.array([0]), np.array([True]))
    view = moved(crowd, np.array([[1.0, 0, 0], [0, 1, 0]]), 64)
    assert view.boxes.tolist() == [[0, 0, 5, 5]]


def test_a_strong_view_keeps_its_shape_and_type_and_differs() -> None:
    image, _ = with_box(40, 30, 70, 50)
    other = strong(np.random.default_rng(0), image)
    assert (other.shape, other.dtype) == (image.shape, np.uint8)
    assert (other != image).any()


def test_a_batch_has_one_shape_and_keeps_the_largest_objects() -> None:
    many = Objects.of(np.array([[0, 0, s, s] for s in range(5, 15)], np.float32), np.arange(10))
    rows = packed([many, Objects.of(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))], most=4)
    assert rows.shape == (2, 4, 10)
    assert rows[0, :, 5].tolist() == [9, 8, 7, 6]
    assert rows[:, :, 4].tolist() == [[OBJECT] * 4, [0] * 4]
    crowd = Objects.of(many.boxes, many.classes, np.ones(10, bool))
    assert set(packed([crowd], most=20)[0, :, 4]) == {0.0, float(IGNORED)}


def test_the_same_step_has_the_same_views_and_another_step_others() -> None:
    scenes = Scenes(*zip(*[with_box(20 + 3 * i, 30, 60, 50) for i in range(4)], strict=True))
    first, again, other = (views_of(scenes, (7, step), count=3, size=64, moves=Moves()) for step in (0, 0, 1))
    assert (first.strong == again.strong).all()
    assert (first.weak != other.weak).any()
    assert all(len(each) for each in first.objects)


def test_what_is_made_ahead_comes_in_order_and_its_errors_too() -> None:
    assert list(ahead(lambda step: step * step, range(7))) == [0, 1, 4, 9, 16, 25, 36]
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda step: 1 // (2 - step), range(7)))
