from dataclasses import replace

import numpy as np
import pytest
from sklearn.semi_supervised import LabelSpreading

from selftrain.selflabel.graph.propagation import Nodes, Space, propagate
from selftrain.selflabel.graph.spreading import nearest, similarity_graph, spread


def moons(images: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes on two arcs around the origin, as directions and a height: no line parts them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, images)
    angle = rng.uniform(0, np.pi / 2, images) + labels * np.pi / 8
    height = 0.6 * labels + rng.normal(0, 0.03, images)
    return np.stack([np.cos(angle), np.sin(angle), height], axis=1).astype(np.float32), labels.astype(np.int64)


def nodes(*, right: float, labelled: int = 20, held: int = 40, images: int = 400, seed: int = 0) -> Nodes:
    """Two separate classes, and a teacher whose answers have the confidence .7 and are `right` so often."""
    features, labels = moons(images, seed=seed)
    rng = np.random.default_rng(seed + 1)
    told = np.where(rng.random(images) < right, labels, 1 - labels)[labelled:]
    answers = np.where(np.eye(2)[told] == 1, 0.7, 0.3).astype(np.float32)
    return Nodes((Space("own", features, answers),), labels[:labelled], labels[labelled : labelled + held])


def another(name: str, features: np.ndarray, *, right: float, labelled: int = 20, seed: int = 5) -> Space:
    """A space of the images of `nodes` with these `features`, and answers that are `right` so often."""
    labels = moons(len(features))[1]
    told = np.where(np.random.default_rng(seed).random(len(labels)) < right, labels, 1 - labels)[labelled:]
    return Space(name, features, np.where(np.eye(2)[told] == 1, 0.7, 0.3).astype(np.float32))


def noise(images: int = 400) -> np.ndarray:
    """Features that say nothing."""
    return np.random.default_rng(0).normal(size=(images, 3)).astype(np.float32)


def accuracy(probs: np.ndarray, *, labelled: int = 20, images: int = 400) -> float:
    return float((probs.argmax(axis=1) == moons(images)[1][labelled:]).mean())


def test_a_share_of_zero_leaves_what_was_known():
    known = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], np.float32)
    graph = similarity_graph(nearest(np.eye(3, dtype=np.float32), 2), 2)
    np.testing.assert_allclose(spread(graph, known, 0.0), known, atol=1e-6)


def test_three_images_in_a_row_agree_with_the_closed_form():
    features = np.array([[1, 0], [0.9, 0.436], [0.62, 0.785]], np.float32)
    graph = similarity_graph(nearest(features, 1), 1)
    known = np.array([[1, 0], [0.5, 0.5], [0, 1]], np.float32)
    exact = np.linalg.solve(np.eye(3) - 0.7 * graph.toarray(), 0.3 * known)
    np.testing.assert_allclose(spread(graph, known, 0.7), exact / exact.sum(axis=1, keepdims=True), atol=1e-3)


def test_it_spreads_as_scikit_learn_does_where_that_can_be_asked():
    features, labels = moons(120)
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    partly = np.where(np.arange(120) < 20, labels, -1)
    theirs = LabelSpreading(kernel="knn", n_neighbors=10, alpha=0.8, max_iter=200).fit(directions, partly)
    known = np.zeros((120, 2), np.float32)
    known[np.arange(20), labels[:20]] = 1
    ours = spread(similarity_graph(nearest(features, 10), 10), known, 0.8)
    assert (ours.argmax(axis=1) == theirs.transduction_).mean() > 0.95


def test_neighbours_mend_a_teacher_that_is_right_three_times_in_four():
    asked = nodes(right=0.75)
    propagated = propagate(asked, fewest=4)
    assert accuracy(asked.spaces[0].answers) < 0.8
    assert accuracy(propagated.probs) > 0.95
    assert "were spread over similar images" in propagated.finding


def test_a_teacher_that_similar_images_cannot_mend_keeps_its_answers():
    asked = nodes(right=0.75)
    labels = moons(400)[1]
    sure = np.where(np.eye(2)[labels[20:]] == 1, 0.9, 0.1).astype(np.float32)
    blind = Nodes((Space("own", noise(), sure),), asked.labels, asked.held_out)
    propagated = propagate(blind, fewest=4)
    assert accuracy(propagated.probs) == 1.0
    assert "did not help" in propagated.finding


def test_few_held_out_labels_choose_nothing():
    asked = nodes(right=0.75, held=2)
    assert "unchecked: 2 labels held out" in propagate(asked, fewest=4).finding


def test_an_image_or_two_are_no_graph():
    space = Space("own", np.eye(3, dtype=np.float32), np.full((2, 2), 0.5, np.float32))
    asked = Nodes((space,), np.array([0]), np.array([], np.int64))
    propagated = propagate(asked, fewest=4)
    np.testing.assert_array_equal(propagated.probs, space.answers)
    assert "too few for a graph" in propagated.finding


def test_fewer_neighbours_are_the_first_of_more():
    features, _ = moons(60)
    few = similarity_graph(nearest(features, 10), 10)
    assert abs(few - similarity_graph(nearest(features, 40), 10)).max() < 1e-6


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_rows_are_probabilities(share):
    asked = nodes(right=0.8)
    (space,) = asked.spaces
    probs = spread(similarity_graph(nearest(space.features, 10), 10), asked.known(space), share)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, atol=1e-5)
    assert (probs >= 0).all()


def test_two_spaces_whose_answers_err_apart_are_right_together():
    asked = nodes(right=0.75)
    spaces = tuple(another(name, noise(), right=0.8, seed=seed) for name, seed in (("own", 5), ("other", 6)))
    alone = [accuracy(propagate(replace(asked, spaces=(space,)), fewest=4).probs) for space in spaces]
    together = propagate(replace(asked, spaces=spaces), fewest=4)
    assert accuracy(together.probs) > min(alone)
    assert accuracy(together.probs) >= max(alone) - 0.02
    assert "own: " in together.finding
    assert " times other: " in together.finding


def test_a_space_whose_answers_are_clearly_worse_is_left_out():
    asked = nodes(right=0.95)
    bad = another("bad", noise(), right=0.2)
    both = propagate(replace(asked, spaces=(*asked.spaces, bad)), fewest=4)
    np.testing.assert_array_equal(both.probs, propagate(asked, fewest=4).probs)
    assert "bad" not in both.finding


def test_the_answers_of_the_better_space_count_where_the_teachers_are_bad():
    asked = nodes(right=0.3)
    good = another("good", asked.spaces[0].features, right=0.9)
    found = propagate(replace(asked, spaces=(*asked.spaces, good)), fewest=4)
    assert accuracy(found.probs) > 0.9
    assert "(good: " in found.finding


def test_unchecked_spaces_are_multiplied():
    asked = nodes(right=0.75, held=2)
    both = replace(asked, spaces=(*asked.spaces, another("other", noise(), right=0.75)))
    found = propagate(both, fewest=4)
    assert "(own and other), unchecked: 2 labels held out" in found.finding
    one, other = (propagate(replace(asked, spaces=(space,)), fewest=4).probs for space in both.spaces)
    product = one * other
    np.testing.assert_allclose(found.probs, product / product.sum(axis=1, keepdims=True), atol=1e-4)
