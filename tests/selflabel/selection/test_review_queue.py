"""Review queues: the images that a person should look at first."""

import numpy as np
import pytest

from selftrain.config import Fixed, PseudoLabel
from selftrain.errors import InputError
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select
from selftrain.selflabel.selection.review_queue import QueueName, review_queue

IDS = [f"{row:064x}" for row in range(3)]
FIRST = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
LAST = [[0.8, 0.2], [0.55, 0.45], [0.7, 0.3]]


def labelled(probs: list[list[float]], index: int) -> PseudoLabels:
    settings = PseudoLabel(threshold=Fixed(value=0.6))
    return select(IDS, np.array(probs), settings, round_index=index, teacher="t", class_names=("<b>", "dog"))


ROUNDS = (labelled(FIRST, 1), labelled(LAST, 2))


def rows(name: QueueName, *, limit: int = 3, known: tuple[str, ...] = ()) -> list[int]:
    return [IDS.index(each.image_id) for each in review_queue(ROUNDS, name, limit=limit, seed=0, known=known)]


def test_uncertain_begins_with_the_least_margin_and_says_what_the_last_teacher_said() -> None:
    assert rows(QueueName.UNCERTAIN) == [1, 2, 0]
    first = review_queue(ROUNDS, QueueName.UNCERTAIN, limit=1, seed=0)[0]
    assert (first.shown, round(first.confidence, 2)) == ("<b>", 0.55)


def test_disagree_holds_only_what_flipped_with_the_most_confident_first() -> None:
    assert rows(QueueName.DISAGREE) == [2, 1]
    assert review_queue(ROUNDS[-1:], QueueName.DISAGREE, limit=3, seed=0) == ()


def test_mixed_takes_turns_and_lists_no_image_twice() -> None:
    assert rows(QueueName.MIXED)[:2] == [1, 2]
    assert sorted(rows(QueueName.MIXED)) == sorted(rows(QueueName.RANDOM)) == [0, 1, 2]


def test_images_that_people_labelled_are_left_out_before_the_limit_counts() -> None:
    assert rows(QueueName.UNCERTAIN, limit=1, known=(IDS[1],)) == [2]


def test_a_run_without_rounds_and_a_limit_of_none_are_refused() -> None:
    with pytest.raises(InputError, match="no pseudo-labels"):
        review_queue((), QueueName.RANDOM, limit=1, seed=0)
    with pytest.raises(InputError, match="limit of 0"):
        review_queue(ROUNDS, QueueName.RANDOM, limit=0, seed=0)
