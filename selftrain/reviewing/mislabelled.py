"""Doubted labels: human labels that a classifier which has not learned from them contradicts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from selftrain.errors import InputError
from selftrain.reviewing.vectors import Vectors

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FOLDS, WIDTH = 5, 128


def doubted_labels(labels: Mapping[str, str], vectors: Vectors | None, *, seed: int) -> tuple[tuple[str, str], ...]:
    """The images of `labels` (image_id -> class) whose label is doubted, the most doubted first, each with the reason.

    A logistic regression on `vectors` answers each image out of fold. Raises InputError where there are no vectors, or
    too few labels.
    """
    if vectors is None:
        raise InputError(
            "the queue mislabelled compares human labels with features of a frozen network, and this data set has none "
            "kept: take another --queue, or run with a backbone that has published weights"
        )
    ids = sorted(each for each in labels if vectors.holds(each))
    names = sorted({labels[each] for each in ids})
    codes = np.array([names.index(labels[each]) for each in ids], np.int64)
    enough = np.isin(codes, np.flatnonzero(np.bincount(codes, minlength=len(names)) >= 2))
    ids, codes = [each for each, kept in zip(ids, enough.tolist(), strict=True) if kept], codes[enough]
    if len(np.unique(codes)) < 2:
        raise InputError("the queue mislabelled needs two classes with two labelled images each; label more first")
    probs = out_of_fold(vectors.of(ids), codes, classes=len(names), seed=seed)
    rows, other = doubted(codes, probs)
    return tuple(
        (
            ids[row],
            f"labelled {names[codes[row]]} ({probs[row, codes[row]]:.2f}), out of fold {names[given]} "
            f"({probs[row, given]:.2f})",
        )
        for row, given in zip(rows.tolist(), other.tolist(), strict=True)
    )


def out_of_fold(values: npt.NDArray[np.float32], codes: Ints, *, classes: int, seed: int) -> Floats:
    """Probabilities (n, classes) of a logistic regression for each row of `values`, fitted to the other folds.

    `codes` (n,) are the labels; each class of them has two rows at least.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    counts = np.bincount(codes)
    folds = StratifiedKFold(min(FOLDS, int(counts[counts > 0].min())), shuffle=True, random_state=seed)
    probs = np.zeros((len(codes), classes))
    for others, fold in folds.split(values, codes):
        width = min(WIDTH, values.shape[1], len(others) - 1)
        model = make_pipeline(PCA(width, random_state=seed), StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        model.fit(values[others], codes[others])
        probs[np.ix_(fold, model.classes_)] = model.predict_proba(values[fold])
    return probs


def doubted(codes: Ints, probs: Floats) -> tuple[Ints, Ints]:
    """The rows whose label is doubted, the most doubted first, and the class that each more likely is.

    A class is likely for a row if its probability reaches the mean that rows with that label have. A label is doubted
    where another class is likely, and more probable than the label (confident learning; Northcutt et al., JAIR 2021,
    equations 1 and 2). Rows are sorted by the label's probability less that of the other class.

    >>> rows, other = doubted(np.array([0, 0, 1, 1]), np.array([[.9, .1], [.1, .9], [.2, .8], [.3, .7]]))
    >>> rows.tolist(), other.tolist()
    ([1], [1])
    """
    rows = np.arange(len(codes))
    own = probs[rows, codes]
    counts = np.bincount(codes, minlength=probs.shape[1])
    usual = np.bincount(codes, weights=own, minlength=probs.shape[1]) / np.maximum(counts, 1)
    likely = np.where((probs >= usual) & (counts > 0), probs, -1.0)
    likely[rows, codes] = -1.0
    other = likely.argmax(axis=1)
    gap = own - likely[rows, other]
    found = np.flatnonzero((likely[rows, other] > own) & (gap < 0))
    found = found[np.argsort(gap[found], kind="stable")]
    return found, other[found]
