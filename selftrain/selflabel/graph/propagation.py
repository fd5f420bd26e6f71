"""Propagation: how far answers are smoothed over similar images, and in which feature spaces, by held-out labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from selftrain.selflabel.graph.spreading import Floats, nearest, similarity_graph, spread

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]

NEIGHBOURS = (10, 20, 40)
SHARES = (0.5, 0.7, 0.8, 0.9)
USUAL = (40, 0.7)
"""Neighbours and share where too few labels are held out to choose by."""


@dataclass(frozen=True, eq=False)
class Space:
    """A feature space, called `name`: `features` (n, d) of all images of a graph, and a model's answers there.

    `answers` are its probabilities (m, classes) for the images after the labelled ones.
    """

    name: str
    features: Floats
    answers: Floats


@dataclass(frozen=True, eq=False)
class Nodes:
    """The images of a graph: labelled ones, then held-out ones, then the pool, in one or more feature `spaces`.

    The first space is the teacher's. `labels` are the classes of the labelled ones, `held_out` those of the held-out
    ones, which no graph is told.
    """

    spaces: tuple[Space, ...]
    labels: Ints
    held_out: Ints

    @property
    def images(self) -> int:
        """How many there are in all."""
        return len(self.spaces[0].features)

    def known(self, space: Space) -> Floats:
        """What is known of each image (n, classes) in `space`: its label, or the answer there."""
        classes = space.answers.shape[1]
        return np.concatenate([np.eye(classes, dtype=np.float32)[self.labels], space.answers])


@dataclass(frozen=True, eq=False)
class Propagated:
    """Probabilities (m, classes) for the held-out images and the pool, and the choice behind them in words."""

    probs: Floats
    finding: str


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Probabilities (m, classes), how they were made in words, and their log loss on each held-out label."""

    probs: Floats
    made: str
    losses: NDArray[np.float64]

    @property
    def loss(self) -> float:
        return float(self.losses.mean())

    def clearly_worse_than(self, other: _Candidate) -> bool:
        """Whether the mean of its losses is higher by more than one standard error of the paired differences."""
        apart = self.losses - other.losses
        return bool(apart.mean() > apart.std(ddof=1) / np.sqrt(len(apart)))


def propagate(nodes: Nodes, *, fewest: int) -> Propagated:
    """Spread labels and answers over the graph of each space, and choose by the log loss on the held-out labels.

    The candidates are the teacher's own answers, the best spreading in each space, and the product of these where there
    are several spaces. The product counts unless it is clearly worse than the best one, since few labels choose badly.
    With under `fewest` held-out labels nothing is chosen: USUAL counts, and the product.
    """
    sizes = [size for size in NEIGHBOURS if size < nodes.images]
    teacher = nodes.spaces[0].answers
    if not sizes:
        return Propagated(teacher, f"{nodes.images} images are too few for a graph: the teacher's answers count")
    if len(nodes.held_out) < fewest:
        return _unchecked(nodes, min(USUAL[0], sizes[-1]))
    alone = _candidate(nodes, teacher, "the teacher's answers")
    each = [min(_spreadings(nodes, space, sizes), key=lambda one: one.loss) for space in nodes.spaces]
    best = min([alone, *each], key=lambda one: one.loss)
    if len(each) > 1:
        product = _candidate(nodes, _product([one.probs for one in each]), " times ".join(one.made for one in each))
        best = best if product.clearly_worse_than(best) else product
    losses = f"log loss on {len(nodes.held_out)} held-out labels {best.loss:.3f}, the teacher's {alone.loss:.3f}"
    if best is alone:
        return Propagated(teacher, f"spreading labels over similar images did not help: {losses}")
    return Propagated(best.probs, f"labels were spread over similar images ({best.made}): {losses}")


def _unchecked(nodes: Nodes, neighbours: int) -> Propagated:
    """The product of the usual spreading in each space."""
    spread_in = [
        _spread(nodes, space, similarity_graph(nearest(space.features, neighbours), neighbours), USUAL[1])
        for space in nodes.spaces
    ]
    names = " and ".join(space.name for space in nodes.spaces)
    held = f"unchecked: {len(nodes.held_out)} labels held out"
    return Propagated(_product(spread_in), f"labels were spread over {neighbours} neighbours ({names}), {held}")


def _spreadings(nodes: Nodes, space: Space, sizes: list[int]) -> Iterator[_Candidate]:
    """Every choice of neighbours and share in `space`. Neighbours are searched once."""
    found = nearest(space.features, sizes[-1])
    for neighbours in sizes:
        graph = similarity_graph(found, neighbours)
        for share in SHARES:
            made = f"{space.name}: {neighbours} neighbours, {share:.0%} from them"
            yield _candidate(nodes, _spread(nodes, space, graph, share), made)


def _spread(nodes: Nodes, space: Space, graph: csr_matrix, share: float) -> Floats:
    return spread(graph, nodes.known(space), share)[len(nodes.labels) :]


def _product(answers: list[Floats]) -> Floats:
    """The normalised product of probabilities (m, classes); no probability counts as less than 1e-6."""
    together = reduce(np.multiply, [np.maximum(each, 1e-6).astype(np.float64) for each in answers])
    probs: Floats = (together / together.sum(axis=1, keepdims=True)).astype(np.float32)
    return probs


def _candidate(nodes: Nodes, probs: Floats, made: str) -> _Candidate:
    """`probs` with their losses at their best temperature, so that only the order and the ratios count."""
    from selftrain.learn.models.calibrate import fit_temperature, softmax

    labels = nodes.held_out
    logits = as_logits(probs[: len(labels)])
    chances = softmax(logits, fit_temperature(logits, labels))[np.arange(len(labels)), labels]
    return _Candidate(probs, made, -np.log(np.maximum(chances.astype(np.float64), 1e-12)))


def as_logits(probs: Floats) -> Floats:
    """Logits (n, classes) whose softmax is `probs`; no probability counts as less than 1e-6."""
    logits: Floats = np.log(np.maximum(probs, 1e-6)).astype(np.float32)
    return logits
