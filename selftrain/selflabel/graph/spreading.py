"""Spreading: labels and a model's answers over a graph of each image's nearest neighbours in a feature space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float32]

_SCALE_NEIGHBOUR = 10  # whose distance is an image's own scale, as in self-tuning clustering (Zelnik-Manor 2004)
_TOLERANCE, _MOST_STEPS = 1e-5, 300


@dataclass(frozen=True, eq=False)
class Nearest:
    """The k nearest neighbours of n images, the nearest first: their `distances` (n, k) and their `rows` (n, k)."""

    distances: NDArray[np.floating]
    rows: NDArray[np.int64]


def nearest(features: Floats, neighbours: int) -> Nearest:
    """The `neighbours` nearest images of each, by the direction of their `features` (n, d); none is its own.

    The search is exact, so it takes n squared distances: seconds for 10,000 images, minutes for 50,000.
    """
    from sklearn.neighbors import NearestNeighbors

    directions = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(directions)
    return Nearest(*search.kneighbors())


def similarity_graph(found: Nearest, neighbours: int) -> csr_matrix:
    """The symmetric graph (n, n) of images and their first `neighbours`, its degrees normalised: D^-1/2 W D^-1/2.

    A tie is a Gaussian of the distance, whose width is the image's own distance to its tenth neighbour.
    """
    from scipy.sparse import csr_matrix, diags

    distances, rows_of = found.distances[:, :neighbours], found.rows[:, :neighbours]
    scale = distances[:, [min(neighbours, _SCALE_NEIGHBOUR) - 1]]
    ties = np.exp(-((distances / np.maximum(scale, 1e-6)) ** 2))
    count = len(distances)
    rows = np.repeat(np.arange(count), neighbours)
    graph = csr_matrix((ties.ravel(), (rows, rows_of.ravel())), shape=(count, count))
    graph = graph.maximum(graph.T)
    half = diags(1 / np.sqrt(np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1e-12)))
    return csr_matrix(half @ graph @ half)


def spread(graph: csr_matrix, known: Floats, share: float) -> Floats:
    """Probabilities (n, classes): `known` (n, classes), smoothed over `graph` from `similarity_graph`.

    Each image takes `share` in [0, 1) of its answer from its neighbours and the rest from `known`, until nothing
    changes. This is label spreading (Zhou et al. 2004, "Learning with local and global consistency", equation 3).
    """
    answers = known.astype(np.float64)
    for _ in range(_MOST_STEPS if share > 0 else 0):
        after = share * (graph @ answers) + (1 - share) * known
        moved = float(np.abs(after - answers).max())
        answers = after
        if moved < _TOLERANCE:
            break
    total = np.maximum(answers.sum(axis=1, keepdims=True), 1e-12)
    probs: Floats = (answers / total).astype(np.float32)
    return probs
