"""Typical images: one of each kind, the largest kind without a label first."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from selftrain.config import Fixed, PseudoLabel
from selftrain.reviewing import typical
from selftrain.reviewing.queues import Material, QueueName, order_of, review_queue
from selftrain.reviewing.typical import FEWEST_IMAGES, typical_first
from selftrain.reviewing.vectors import Vectors, unit
from selftrain.selflabel.selection.pseudo_labels import select

SIZES = (60, 40, 20, 10)
"""Of planted kinds, far apart."""
OUTSIDER = sum(SIZES)


def planted() -> np.ndarray:
    """The kinds one after the other, the first image of each in its middle, and one image far from all."""
    draw = np.random.default_rng(0)
    parts = []
    for kind, size in enumerate(SIZES):
        part = draw.normal(size=(size, 8)) * 0.1
        part[0] = 0
        parts.append(part + 10 * np.eye(8)[kind])
    return np.concatenate([*parts, -30 * np.ones((1, 8))]).astype(np.float32)


STARTS = np.cumsum([0, *SIZES])


def kinds_of(rows: list[int]) -> list[int]:
    return (np.searchsorted(STARTS, rows, side="right") - 1).tolist()


def test_each_kind_comes_once_the_largest_first_and_by_the_image_in_its_middle() -> None:
    none = np.zeros(OUTSIDER + 1, np.bool_)
    found = list(islice(typical_first(planted(), none, budget=5, seed=0), 4))
    assert [row for row, _ in found] == STARTS[:4].tolist()
    assert [size for _, size in found] == list(SIZES)


def test_kinds_that_have_a_label_come_after_those_that_have_none_and_an_outsider_last() -> None:
    labelled = np.zeros(OUTSIDER + 1, np.bool_)
    labelled[[STARTS[0], STARTS[2]]] = True
    order = [row for row, _ in typical_first(planted(), labelled, budget=3, seed=0)]
    assert kinds_of(order[:4]) == [1, 3, 0, 1]
    assert order[-1] == OUTSIDER
    assert sorted(order) == np.flatnonzero(~labelled).tolist()


def test_a_large_kind_is_compared_with_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typical, "MOST_COMPARED", 30)
    none = np.zeros(OUTSIDER + 1, np.bool_)
    order = [row for row, _ in typical_first(planted(), none, budget=5, seed=0)]
    assert kinds_of(order[:4]) == [0, 1, 2, 3]
    assert sorted(order) == list(range(OUTSIDER + 1))


def test_images_that_are_all_alike_and_fewer_than_a_kind_needs_all_come() -> None:
    for count in (1, 2, FEWEST_IMAGES):
        alike, none = np.ones((count, 3), np.float32), np.zeros(count, np.bool_)
        assert sorted(row for row, _ in typical_first(alike, none, budget=3, seed=0)) == list(range(count))
    assert list(typical_first(np.empty((0, 3), np.float32), np.empty(0, np.bool_), budget=3, seed=0)) == []


def test_the_queue_says_how_many_images_of_a_kind_there_are_and_leaves_out_what_was_answered() -> None:
    values, ids = planted(), [f"{row:064x}" for row in range(OUTSIDER + 1)]
    probs = np.tile([0.6, 0.4], (len(ids), 1))
    last = select(
        ids, probs, PseudoLabel(threshold=Fixed(value=0.5)), round_index=1, teacher="t", class_names=("a", "b")
    )
    material = Material(rounds=(last,), vectors=Vectors(tuple(ids), unit(values)))
    found = review_queue(material, QueueName.TYPICAL, limit=5, spread_out=True)
    assert kinds_of([ids.index(each) for each, _ in found[:4]]) == [0, 1, 2, 3]
    assert found[0][1] == "typical: near the others of its kind, which has 60 images"
    after = review_queue(material, QueueName.TYPICAL, limit=2, known=[each for each, _ in found[:2]])
    assert kinds_of([ids.index(each) for each, _ in after]) == [2, 3]
    assert "largest kind" in order_of(material, QueueName.TYPICAL, count=4, limit=4, spread_out=True)
    bare = Material(rounds=(last,))
    assert len(review_queue(bare, QueueName.TYPICAL, limit=3)) == 3  # no features are kept: all answers are alike
