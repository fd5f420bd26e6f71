"""Wrong answers: the most confident ones, limited per pair and together, as a loop finds them."""

import numpy as np

from selftrain.evaluate.wrong_answers import MOST_PER_PAIR, wrong_answers


def test_every_wrong_answer_is_found_and_no_right_one() -> None:
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.ones(4), 30), rng.integers(0, 4, 30)
    ids = [f"image {index}" for index in range(30)]
    found = wrong_answers(ids, labels, probs)
    naive = {ids[row] for row in range(30) if probs[row].argmax() != labels[row]}
    assert {each.image_id for each in found} == naive
    assert [each.confidence for each in found] == sorted((each.confidence for each in found), reverse=True)


def test_one_pair_does_not_crowd_out_the_others_and_the_whole_is_limited() -> None:
    probs = np.tile([0.1, 0.9, 0.0], (50, 1))
    probs[-1] = [0.3, 0.2, 0.5]
    ids = [str(index) for index in range(50)]
    found = wrong_answers(ids, np.zeros(50, int), probs)
    assert len(found) == MOST_PER_PAIR + 1
    assert (found[-1].image_id, found[-1].predicted) == ("49", 2)
    assert len(wrong_answers(ids, np.zeros(50, int), probs, most=5)) == 5
