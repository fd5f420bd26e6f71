"""The learning curve of heads: more labels are better, and no head is asked about a label that it saw."""

import numpy as np
from sklearn.datasets import load_digits

from selftrain.learn.heads.learning_curve import held_out_answers
from selftrain.learn.heads.logistic import fit_logistic

X, Y = load_digits(return_X_y=True)
X, Y = X[:300].astype(np.float32), Y[:300].astype(np.int64)


def curve(features, labels, classes=10):
    return held_out_answers(features, labels, classes=classes, inverse_penalty=1e-2, seed=1)


def test_heads_on_more_labels_are_right_more_often():
    found = curve(X, Y)
    assert found.sizes == (30, 60, 120, 240)
    assert found.right.shape == (4, 4, 300)
    accuracy = found.right.mean(axis=(1, 2))
    assert (np.diff(accuracy) > 0).all()
    assert accuracy[0] < 0.85 < 0.9 < accuracy[-1]
    np.testing.assert_array_equal(found.labels, Y)


def test_labels_that_mean_nothing_are_not_known_to_the_heads():
    """With a feature for every image, a head that had seen an image would name its label."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(200, 400)).astype(np.float32), rng.integers(0, 4, 200)
    assert abs(float(curve(features, labels, 4).right.mean()) - 0.25) < 0.08


def test_the_same_labels_give_the_same_curve():
    np.testing.assert_array_equal(curve(X, Y).right, curve(X, Y).right)


def test_every_part_holds_each_class_by_its_share(monkeypatch):
    parts = []

    def noted(features, targets, **settings):
        parts.append(targets.probs.sum(axis=0))
        return fit_logistic(features, targets, **settings)

    monkeypatch.setattr("selftrain.learn.heads.learning_curve.fit_logistic", noted)
    rare = np.concatenate([np.flatnonzero(Y != 3), np.flatnonzero(Y == 3)[:5]])
    assert curve(X[rare], Y[rare]) is not None
    assert len(parts) == 5 * (4 + 3 + 2 + 1)
    assert all(part.min() >= 1 for part in parts)
    assert all(part[3] <= 5 and part.max() <= 2 * np.median(part) for part in parts)


def test_a_class_with_one_label_has_no_curve():
    one = np.concatenate([np.flatnonzero(Y != 3), np.flatnonzero(Y == 3)[:1]])
    assert curve(X[one], Y[one]) is None


def test_fits_that_would_take_minutes_are_not_begun():
    features, labels = np.zeros((1_500, 2_000), np.float32), np.arange(1_500) % 500
    assert curve(features, labels, 500) is None
