"""The vote of neighbours: golden numbers, a naive reference, and what leaving one out means."""

import math

import numpy as np
import pytest

from selftrain.errors import SourceError
from selftrain.learn.pretraining.knn import knn_accuracy, spread, weighted_votes


def naive_accuracy(features: np.ndarray, labels: np.ndarray, k: int, temperature: float) -> float:
    """arXiv:1805.01978, section 3.4, an image at a time."""
    right = 0
    for i in range(len(labels)):
        scores = []
        for j in range(len(labels)):
            if j != i:
                lengths = np.linalg.norm(features[i]) * np.linalg.norm(features[j])
                scores.append((float(features[i] @ features[j]) / lengths, int(labels[j])))
        votes: dict[int, float] = {}
        for similarity, label in sorted(scores, reverse=True)[:k]:
            votes[label] = votes.get(label, 0.0) + math.exp(similarity / temperature)
        right += max(votes, key=lambda label: votes[label]) == labels[i]
    return right / len(labels)


@pytest.mark.parametrize("k", [1, 5, 59])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_accuracy_is_the_naive_one(k: int, temperature: float) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    features = rng.normal(size=(60, 5)) + 1.2 * np.eye(5)[labels]
    found = knn_accuracy(features, labels, neighbours=k, temperature=temperature)
    assert found == pytest.approx(naive_accuracy(features, labels, k, temperature), abs=1e-12)
    assert 0.4 < found < 1.0


def test_an_image_does_not_vote_for_itself() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    assert knn_accuracy(features, np.array([0, 0, 1, 1]), neighbours=1) == 1.0
    assert knn_accuracy(features, np.array([0, 1, 0, 1]), neighbours=1) == 0.0


def test_more_neighbours_than_images_are_all_images() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    assert knn_accuracy(features, np.array([0, 0, 1]), neighbours=200) == pytest.approx(2 / 3)


def test_votes_do_not_overflow_at_a_low_temperature() -> None:
    votes = weighted_votes(np.array([[1.0, 0.5]]), np.array([1, 0]), neighbours=2, temperature=1e-4)
    assert np.isfinite(votes).all()
    assert votes.argmax() == 1


def test_one_image_has_no_neighbours() -> None:
    with pytest.raises(SourceError, match=r"1 labelled image\(s\).*give more of them, or none"):
        knn_accuracy(np.ones((1, 2)), np.array([0]))


def test_the_spread_is_one_on_the_sphere_and_falls_with_collapse() -> None:
    rng = np.random.default_rng(0)
    free = rng.normal(size=(4000, 16))
    assert spread(free) == pytest.approx(1.0, abs=0.02)
    assert spread(free + 10) < 0.3
    assert spread(np.repeat(free[:1], 50, axis=0)) == pytest.approx(0.0, abs=1e-6)
