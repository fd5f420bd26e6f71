"""Logistic regression: a linear classifier on feature vectors, from hard or soft targets."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

INVERSE_PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1, 1.0)
"""Candidates for the inverse strength C of the penalty on the weights, for features of unit variance."""
USUAL_PENALTY = 0.1  # where a class has a single label, so that no label can be held out
_FOLDS = 5
_MOST_HELD_OUT = 2_000  # labels that choose the penalty; more would not change the choice
_NEGLIGIBLE = 0.01  # a class with a smaller part in a soft target does not count
_ITERATIONS = 300
_SMALL = 4_000_000  # numbers in a matrix
_NEVER = -30.0  # logit of a class without an example


@dataclass(frozen=True, eq=False)
class Targets:
    """What to fit: `probs` (n, classes), rows that sum to 1, `weights` (n,), and which rows are `human` labels (n,)."""

    probs: Floats
    weights: Floats
    human: NDArray[np.bool_]

    def of(self, rows: Ints) -> Targets:
        """The targets of `rows`."""
        return Targets(self.probs[rows], self.weights[rows], self.human[rows])


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear classifier: logits = features @ `weights` (d, classes) + `bias` (classes,).

    `inverse_penalty` is the C that it was fitted with. `held_out_accuracy` is the cross-validated accuracy of that
    choice on the human labels, in 0-1, or None if there were too few to hold any out.
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    inverse_penalty: float
    held_out_accuracy: float | None = None

    def logits(self, features: Floats) -> NDArray[np.float64]:
        """Logits (n, classes) of `features` (n, d)."""
        return features @ self.weights + self.bias


def fit_logistic(features: Floats, targets: Targets, *, seed: int, inverse_penalty: float | None = None) -> Linear:
    """Fit by L-BFGS on standardised `features` (n, d); the result reads them as they are.

    The penalty is chosen by stratified k-fold cross-validation over the human labels, by log loss. All of `targets`
    are then fitted with it. An `inverse_penalty` that is given is taken instead, and nothing is held out.

    >>> features = np.array([[0.0], [0.2], [0.9], [1.1]], np.float32)
    >>> hard = Targets(np.eye(2, dtype=np.float32)[[0, 0, 1, 1]], np.ones(4, np.float32), np.ones(4, bool))
    >>> fit_logistic(features, hard, seed=0).logits(features).argmax(axis=1).tolist()
    [0, 0, 1, 1]
    """
    mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    scale[scale < 1e-6] = 1.0
    standardised = ((features - mean) / scale).astype(np.float32)
    penalty, accuracy = inverse_penalty, None
    if penalty is None:
        penalty, accuracy = _chosen_penalty(standardised, targets, seed=seed)
    fitted = _fitted(standardised, targets, penalty)
    weights = fitted.weights / scale[:, None]
    return replace(fitted, weights=weights, bias=fitted.bias - mean @ weights, held_out_accuracy=accuracy)


def _chosen_penalty(features: Floats, targets: Targets, *, seed: int) -> tuple[float, float | None]:
    """The candidate with the lowest log loss on held-out human labels, and its accuracy there.

    `features` (n, d) are standardised. Where a class has a single label, it is the usual one, and no accuracy is known.
    """
    from sklearn.model_selection import StratifiedKFold

    rows = np.flatnonzero(targets.human)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:_MOST_HELD_OUT])
    labels = targets.probs[rows].argmax(axis=1)
    counts = np.bincount(labels)
    folds = min(_FOLDS, int(counts[counts > 0].min(initial=len(rows))))
    if folds < 2 or len(np.unique(labels)) < 2:
        return USUAL_PENALTY, None
    split = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, labels))
    scores = []
    for penalty in INVERSE_PENALTIES:
        logits = np.empty((len(rows), targets.probs.shape[1]))
        for fitting, held_out in split:
            part = _fitted(features[rows[fitting]], targets.of(rows[fitting]), penalty)
            logits[held_out] = part.logits(features[rows[held_out]])
        scores.append((_log_loss(logits, labels), penalty, float((logits.argmax(axis=1) == labels).mean())))
    _, penalty, accuracy = min(scores)
    return penalty, accuracy


def _log_loss(logits: NDArray[np.float64], labels: Ints) -> float:
    top = logits.max(axis=1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return float(np.mean(total - logits[np.arange(len(labels)), labels]))


def _threads_for(numbers: int) -> AbstractContextManager[object]:
    """One thread of the linear algebra for a small matrix: several wait for each other longer than they compute."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1, user_api="blas") if numbers < _SMALL else nullcontext()


def _fitted(features: Floats, targets: Targets, inverse_penalty: float) -> Linear:
    """A classifier for standardised features. A soft target counts once for each of its classes, by their parts."""
    from sklearn.linear_model import LogisticRegression

    rows, classes = np.nonzero(targets.probs > _NEGLIGIBLE)
    parts = targets.probs[rows, classes] * targets.weights[rows]
    number, width = targets.probs.shape[1], features.shape[1]
    weights, bias = np.zeros((width, number)), np.full(number, _NEVER)
    present = np.unique(classes)
    if len(present) == 1:
        bias[present] = 0.0
        return Linear(weights, bias, inverse_penalty)
    regression = LogisticRegression(C=inverse_penalty, max_iter=_ITERATIONS)
    with _threads_for(len(rows) * width):
        regression.fit(features[rows], classes, sample_weight=parts)
    if len(present) == 2:  # scikit-learn gives one column of log odds
        half, offset = regression.coef_[0] / 2, regression.intercept_[0] / 2
        weights[:, present], bias[present] = np.stack([-half, half], axis=1), (-offset, offset)
    else:
        weights[:, present], bias[present] = regression.coef_.T, regression.intercept_
    return Linear(weights, bias, inverse_penalty)
