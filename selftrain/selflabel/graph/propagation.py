"""Propagation: how far the teacher's answers are smoothed over similar images, chosen on held-out labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selftrain.selflabel.graph.spreading import Floats, nearest, similarity_graph, spread

Ints = NDArray[np.int64]

NEIGHBOURS = (10, 20, 40)
SHARES = (0.5, 0.7, 0.8, 0.9)
USUAL = (40, 0.7)
"""Neighbours and share where too few labels are held out to choose by."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """The images of a graph: labelled ones, then held-out ones, then the pool.

    `features` (n, d) are of all of them, `labels` are the classes of the labelled ones, `held_out` those of the
    held-out ones, which the graph is not told. `answers` are the teacher's probabilities (m, classes) for the images
    after the labelled ones.
    """

    features: Floats
    labels: Ints
    held_out: Ints
    answers: Floats

    @property
    def known(self) -> Floats:
        """What is known of each image (n, classes): its label, or the teacher's answer."""
        classes = self.answers.shape[1]
        return np.concatenate([np.eye(classes, dtype=np.float32)[self.labels], self.answers])


@dataclass(frozen=True, eq=False)
class Propagated:
    """Probabilities (m, classes) for the held-out images and the pool, and the choice behind them in words."""

    probs: Floats
    finding: str


def propagate(nodes: Nodes, *, fewest: int) -> Propagated:
    """Spread labels and answers over the graph, by the choice with the lowest log loss on the held-out labels.

    Where no choice beats the teacher's own answers there, these stay as they are. With under `fewest` held-out labels
    nothing is chosen, and USUAL counts.
    """
    images, held = len(nodes.features), len(nodes.held_out)
    sizes = [size for size in NEIGHBOURS if size < images]
    if not sizes:
        return Propagated(nodes.answers, f"{images} images are too few for a graph: the teacher's answers count")
    found = nearest(nodes.features, sizes[-1])
    if held < fewest:
        neighbours = min(USUAL[0], sizes[-1])
        probs = _after_labels(nodes, spread(similarity_graph(found, neighbours), nodes.known, USUAL[1]))
        return Propagated(probs, f"labels were spread over {neighbours} neighbours, unchecked: {held} labels held out")
    alone = _log_loss(nodes.answers[:held], nodes.held_out)
    best, probs, choice = alone, nodes.answers, ""
    for neighbours in sizes:
        graph = similarity_graph(found, neighbours)
        for share in SHARES:
            candidate = _after_labels(nodes, spread(graph, nodes.known, share))
            loss = _log_loss(candidate[:held], nodes.held_out)
            if loss < best:
                best, probs, choice = loss, candidate, f"{neighbours} neighbours, {share:.0%} from them"
    losses = f"log loss on {held} held-out labels {best:.3f}, the teacher's {alone:.3f}"
    if not choice:
        return Propagated(probs, f"spreading labels over similar images did not help: {losses}")
    return Propagated(probs, f"labels were spread over similar images ({choice}): {losses}")


def _after_labels(nodes: Nodes, probs: Floats) -> Floats:
    return probs[len(nodes.labels) :]


def _log_loss(probs: Floats, labels: Ints) -> float:
    """The log loss in nats at the best temperature, so that only the order and the ratios count."""
    from selftrain.learn.models.calibrate import fit_temperature, negative_log_likelihood

    logits = as_logits(probs)
    return negative_log_likelihood(logits, labels, fit_temperature(logits, labels))


def as_logits(probs: Floats) -> Floats:
    """Logits (n, classes) whose softmax is `probs`; no probability counts as less than 1e-6."""
    logits: Floats = np.log(np.maximum(probs, 1e-6)).astype(np.float32)
    return logits
