import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from selftrain.learn.heads.logistic import INVERSE_PENALTIES, USUAL_PENALTY, Targets, fit_logistic

X, Y = load_digits(return_X_y=True)
X = (X[:400] * 3 + 100).astype(np.float32)
Y = Y[:400].astype(np.int64)


def hard(labels: np.ndarray, classes: int = 10, human: bool = True) -> Targets:
    count = len(labels)
    return Targets(np.eye(classes, dtype=np.float32)[labels], np.ones(count, np.float32), np.full(count, human))


def accuracy(linear, features, labels) -> float:
    return float((linear.logits(features).argmax(axis=1) == labels).mean())


def test_it_is_scikit_learns_own_regression_on_standardised_features():
    linear = fit_logistic(X[:200], hard(Y[:200]), seed=0)
    scale = X[:200].std(axis=0)
    scale[scale < 1e-6] = 1
    centre = X[:200].mean(axis=0)
    reference = LogisticRegression(C=linear.inverse_penalty, max_iter=300).fit((X[:200] - centre) / scale, Y[:200])
    ours, theirs = linear.logits(X[200:]), reference.decision_function((X[200:] - centre) / scale)
    np.testing.assert_allclose(ours - ours.mean(axis=1, keepdims=True), theirs, atol=0.02)


def test_the_penalty_is_chosen_among_the_candidates_by_held_out_labels():
    linear = fit_logistic(X[:200], hard(Y[:200]), seed=0)
    assert linear.inverse_penalty in INVERSE_PENALTIES
    assert linear.held_out_accuracy is not None
    assert abs(linear.held_out_accuracy - accuracy(linear, X[200:], Y[200:])) < 0.1


def test_two_classes_answer_two_columns_that_are_right():
    chosen = Y < 2
    linear = fit_logistic(X[chosen], hard(Y[chosen], classes=2), seed=0)
    assert linear.weights.shape == (64, 2)
    assert accuracy(linear, X[chosen], Y[chosen]) == 1.0


def test_a_class_without_an_example_is_never_answered():
    chosen = Y < 3
    linear = fit_logistic(X[chosen], hard(Y[chosen], classes=4), seed=0)
    assert not (linear.logits(X).argmax(axis=1) == 3).any()


def test_one_label_a_class_is_fitted_with_the_usual_penalty():
    first = np.array([np.flatnonzero(each == Y)[0] for each in range(10)])
    linear = fit_logistic(X[first], hard(Y[first]), seed=0)
    assert (linear.inverse_penalty, linear.held_out_accuracy) == (USUAL_PENALTY, None)
    assert accuracy(linear, X, Y) > 0.5


def test_a_soft_target_counts_for_each_class_by_its_part():
    features = np.array([[0.0], [1.0]], np.float32)
    soft = Targets(np.array([[0.8, 0.2], [0.2, 0.8]], np.float32), np.ones(2, np.float32), np.zeros(2, bool))
    rows = np.array([[0.0], [0.0], [1.0], [1.0]], np.float32)
    weights = np.array([0.8, 0.2, 0.2, 0.8], np.float32)
    split = Targets(np.eye(2, dtype=np.float32)[[0, 1, 0, 1]], weights, np.zeros(4, bool))
    # Both standardise by the same mean and scale, because each of the two values has the same weight.
    np.testing.assert_allclose(
        fit_logistic(features, soft, seed=0).weights, fit_logistic(rows, split, seed=0).weights, atol=1e-4
    )


def test_images_of_no_weight_change_nothing():
    labels = hard(Y[:100])
    wrong = hard((Y[100:200] + 1) % 10, human=False)
    both = Targets(
        np.concatenate([labels.probs, wrong.probs]),
        np.concatenate([labels.weights, np.zeros(100, np.float32)]),
        np.concatenate([labels.human, wrong.human]),
    )
    assert accuracy(fit_logistic(X[:200], both, seed=0), X[200:], Y[200:]) == pytest.approx(
        accuracy(fit_logistic(X[:100], labels, seed=0), X[200:], Y[200:]), abs=0.05
    )
