"""Distribution alignment: a teacher's probabilities, scaled to the class mix of the labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from selftrain.errors import PredictionError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def alignment_ratio(pool: npt.ArrayLike, prior: npt.ArrayLike) -> Doubles:
    """p(y) / p~(y), (classes,): the labels' share of each class over its mean probability in `pool` (n, classes).

    ReMixMatch (arXiv:1911.09785), section 3.1. `prior` (classes,) counts the human training labels, at least one per
    class. p~ is the mean over the whole pool, because one teacher answered all of it. The paper takes a moving average
    over 128 batches, because its model changes. A class with mean probability 0 has ratio 1. If the pool is empty, all
    classes have ratio 1. Raises PredictionError for a prior of another number of classes, or with a class without
    labels.
    """
    counts, table = np.asarray(prior, np.float64), np.asarray(pool, np.float32)
    if table.ndim != 2 or counts.shape != table.shape[1:] or not (counts > 0).all():
        raise PredictionError(
            f"the class counts {counts.tolist()} do not fit probabilities of shape {table.shape}; "
            "alignment needs at least one training label per class"
        )
    expected = table.mean(axis=0, dtype=np.float64) if len(table) else np.zeros(len(counts))
    ratio: Doubles = np.divide(counts / counts.sum(), expected, out=np.ones_like(counts), where=expected > 0)
    return ratio


def aligned(probs: npt.ArrayLike, ratio: npt.ArrayLike) -> Floats:
    """Normalize(q * p(y) / p~(y)) for each row q of `probs` (n, classes); ReMixMatch (arXiv:1911.09785), section 3.1.

    >>> aligned([[0.5, 0.5], [0.75, 0.25]], [1.0, 3.0]).tolist()
    [[0.25, 0.75], [0.5, 0.5]]
    """
    weighted = np.asarray(probs, np.float32) * np.asarray(ratio, np.float32)
    normalized: Floats = weighted / weighted.sum(axis=1, keepdims=True)
    return normalized
