"""k-NN: how good frozen features are, judged by the votes of the nearest labelled images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selftrain.errors import SourceError

_CHUNK = 1024

Features = NDArray[np.floating]
Labels = NDArray[np.integer]


def knn_accuracy(features: Features, labels: Labels, *, neighbours: int = 20, temperature: float = 0.07) -> float:
    """The share of images whose nearest neighbours vote for their label; features (n, d), labels (n,) class indices.

    An image does not vote for itself, so the same few images can vote and be judged. Raises SourceError for fewer than
    two images.
    """
    if len(labels) < 2:
        raise SourceError(
            f"{len(labels)} labelled image(s) cannot judge features, because neighbours vote among two or more; "
            "give more of them, or none"
        )
    unit, right = _unit(features), 0
    for start in range(0, len(labels), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(labels)))
        similarity = unit[rows] @ unit.T
        similarity[np.arange(len(rows)), rows] = -np.inf
        k = min(neighbours, len(labels) - 1)
        votes = weighted_votes(similarity, labels, neighbours=k, temperature=temperature)
        right += int((votes.argmax(axis=1) == labels[rows]).sum())
    return right / len(labels)


def weighted_votes(
    similarity: Features, labels: Labels, *, neighbours: int, temperature: float = 0.07
) -> NDArray[np.float64]:
    """Votes (m, classes) of the `neighbours` most similar images; `similarity` (m, n) is the cosine, `labels` (n,).

    Weighted k-NN (Wu et al. 2018, arXiv:1805.01978, section 3.4): a neighbour of similarity s votes with
    exp(s / temperature). The votes of a row are scaled by one factor, so that they cannot overflow.

    >>> votes = weighted_votes(np.array([[1.0, 0.9, 0.9]]), np.array([0, 1, 1]), neighbours=3, temperature=0.1)
    >>> votes.round(2).tolist()
    [[1.0, 0.74]]
    """
    nearest = np.argpartition(-similarity, neighbours - 1, axis=1)[:, :neighbours]
    close = np.take_along_axis(similarity, nearest, axis=1).astype(np.float64)
    weights = np.exp((close - close.max(axis=1, keepdims=True)) / temperature)
    votes = np.zeros((len(similarity), int(labels.max()) + 1))
    np.add.at(votes, (np.arange(len(similarity))[:, None], labels[nearest]), weights)
    return votes


def spread(features: Features) -> float:
    """How widely embeddings (n, d) are spread: near 1 if they cover the whole sphere, 0 if collapsed.

    SimSiam (arXiv:2011.10566, section 4.1): sqrt(d) times the mean standard deviation per normalised dimension.

    >>> spread(np.ones((4, 3))), round(spread(np.eye(4)), 2)
    (0.0, 0.87)
    """
    unit = _unit(features)
    return float(unit.std(axis=0).mean() * np.sqrt(unit.shape[1]))


def _unit(features: Features) -> NDArray[np.float64]:
    exact = np.asarray(features, np.float64)
    length = np.linalg.norm(exact, axis=1, keepdims=True)
    unit: NDArray[np.float64] = exact / np.maximum(length, 1e-12)
    return unit
