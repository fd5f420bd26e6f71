"""Consistency rules beside per-image loops written from the papers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.keras


def softmax(row: np.ndarray) -> list[float]:
    largest = max(row)
    exps = [math.exp(each - largest) for each in row]
    return [each / sum(exps) for each in exps]


def argmax(row: list[float]) -> int:
    return row.index(max(row))


def batches(classes: int, n: int = 12, count: int = 4, spread: float = 3.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    lean = rng.normal(0, 1, classes)  # some classes are predicted more than others
    return [
        tuple((rng.normal(0, spread, (n, classes)) + lean).astype(np.float32) for _ in range(2)) for _ in range(count)
    ]


def losses_of(layer, pairs) -> list[float]:
    return [float(layer(weak, strong)) for weak, strong in pairs]


def cross_entropy(strong_row: np.ndarray, label: int) -> float:
    return -math.log(softmax(strong_row)[label])


class NaiveFixMatch:
    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, weak: np.ndarray, strong: np.ndarray) -> float:
        total = 0.0
        for one, other in zip(weak, strong, strict=True):
            q = softmax(one)
            if max(q) >= self.threshold:
                total += cross_entropy(other, argmax(q))
        return total / len(weak)


class NaiveFreeMatch:
    def __init__(self, classes: int, momentum: float, fairness: float) -> None:
        self.classes, self.momentum, self.fairness = classes, momentum, fairness
        self.level = 1 / classes
        self.means, self.histogram = [1 / classes] * classes, [1 / classes] * classes

    def __call__(self, weak: np.ndarray, strong: np.ndarray) -> float:
        n, m = len(weak), self.momentum
        q = [softmax(row) for row in weak]
        self.level = m * self.level + (1 - m) * sum(max(row) for row in q) / n
        for c in range(self.classes):
            self.means[c] = m * self.means[c] + (1 - m) * sum(row[c] for row in q) / n
            share = sum(argmax(row) == c for row in q) / n
            self.histogram[c] = m * self.histogram[c] + (1 - m) * share
        thresholds = [mean / max(self.means) * self.level for mean in self.means]
        kept = [i for i in range(n) if max(q[i]) >= thresholds[argmax(q[i])]]
        unsupervised = sum(cross_entropy(strong[i], argmax(q[i])) for i in kept) / n
        return unsupervised + self.fairness * self.unfairness([softmax(strong[i]) for i in kept])

    def unfairness(self, views: list[list[float]]) -> float:
        if not views:
            return 0.0
        expected = [mean / share if share > 0 else 0.0 for mean, share in zip(self.means, self.histogram, strict=True)]
        batch = []
        for c in range(self.classes):
            count = sum(argmax(row) == c for row in views)
            batch.append(sum(row[c] for row in views) / count if count else 0.0)
        expected, batch = ([each / sum(side) for each in side] for side in (expected, batch))
        return sum(one * math.log(other + 1e-12) for one, other in zip(expected, batch, strict=True))


class NaiveSoftMatch:
    def __init__(self, classes: int, momentum: float, n_sigma: float) -> None:
        self.momentum, self.n_sigma = momentum, n_sigma
        self.mean, self.variance, self.means = 1 / classes, 1.0, [1 / classes] * classes

    def __call__(self, weak: np.ndarray, strong: np.ndarray) -> float:
        n, m = len(weak), self.momentum
        q = [softmax(row) for row in weak]
        self.means = [m * mean + (1 - m) * sum(row[c] for row in q) / n for c, mean in enumerate(self.means)]
        sure = []
        for row in q:
            aligned = [each / mean for each, mean in zip(row, self.means, strict=True)]
            sure.append(max(aligned) / sum(aligned))
        batch_mean = sum(sure) / n
        self.mean = m * self.mean + (1 - m) * batch_mean
        self.variance = m * self.variance + (1 - m) * sum((each - batch_mean) ** 2 for each in sure) / (n - 1)
        total = 0.0
        for row, confidence, other in zip(q, sure, strong, strict=True):
            weight = 1.0
            if confidence < self.mean:
                weight = math.exp(-((confidence - self.mean) ** 2) / (2 * self.variance / self.n_sigma**2))
            total += weight * cross_entropy(other, argmax(row))
        return total / n


def pair_of(method: str, classes: int, momentum: float = 0.7):
    from selftrain.learn.consistency import FixMatch, FreeMatch, SoftMatch

    match method:
        case "fixmatch":
            return FixMatch(0.8), NaiveFixMatch(0.8)
        case "freematch":
            settings = {"momentum": momentum, "fairness": 0.3}
            return FreeMatch(classes, **settings), NaiveFreeMatch(classes, **settings)
        case _:
            settings = {"momentum": momentum, "n_sigma": 2.0}
            return SoftMatch(classes, **settings), NaiveSoftMatch(classes, **settings)


@pytest.mark.parametrize("method", ["fixmatch", "freematch", "softmatch"])
@settings(max_examples=15, deadline=None)
@given(classes=st.integers(2, 7), n=st.integers(2, 20), spread=st.floats(0.1, 8.0), seed=st.integers(0, 10_000))
def test_a_rule_agrees_with_a_loop_over_images_batch_after_batch(method, classes, n, spread, seed) -> None:
    layer, naive = pair_of(method, classes)
    pairs = batches(classes, n=n, spread=spread, seed=seed)
    np.testing.assert_allclose(losses_of(layer, pairs), [naive(*pair) for pair in pairs], rtol=2e-5, atol=1e-6)


def test_the_thresholds_and_weights_follow_the_papers_to_a_millionth() -> None:
    layer, naive = pair_of("freematch", 5)
    for pair in batches(5):
        layer(*pair)
        naive(*pair)
    np.testing.assert_allclose(float(layer.level), naive.level, atol=1e-6)
    np.testing.assert_allclose(np.asarray(layer.class_means), naive.means, atol=1e-6)
    np.testing.assert_allclose(np.asarray(layer.histogram), naive.histogram, atol=1e-6)
    layer, naive = pair_of("softmatch", 5)
    for pair in batches(5):
        layer(*pair)
        naive(*pair)
    np.testing.assert_allclose([float(layer.mean), float(layer.variance)], [naive.mean, naive.variance], atol=1e-6)
    np.testing.assert_allclose(np.asarray(layer.class_means), naive.means, atol=1e-6)


def test_freematch_keeps_the_state_that_a_pools_thresholds_are_computed_from() -> None:
    from selftrain.selflabel.adaptive import fresh_adaptive, fresh_gaussian, update_adaptive, update_gaussian

    free, _ = pair_of("freematch", 4)
    soft, _ = pair_of("softmatch", 4)
    adaptive, gaussian, means = fresh_adaptive(4), fresh_gaussian(4), np.full(4, 0.25)
    for weak, strong in batches(4):
        free(weak, strong)
        soft(weak, strong)
        probs = np.float64([softmax(row) for row in weak])
        adaptive = update_adaptive(adaptive, probs, momentum=0.7)
        means = 0.7 * means + 0.3 * probs.mean(axis=0)
        aligned = probs / means
        gaussian = update_gaussian(gaussian, aligned.max(axis=1) / aligned.sum(axis=1), momentum=0.7)
    assert float(free.level) == pytest.approx(adaptive.level, abs=1e-6)
    np.testing.assert_allclose(np.asarray(free.class_means), adaptive.class_means, atol=1e-6)
    assert (float(soft.mean), float(soft.variance)) == pytest.approx((gaussian.mean, gaussian.variance), abs=1e-6)


def test_fixmatch_by_hand() -> None:
    from selftrain.learn.consistency import FixMatch

    weak = np.log(np.float32([[0.9, 0.05, 0.05], [0.5, 0.3, 0.2]]))
    strong = np.log(np.float32([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    assert float(FixMatch(0.8)(weak, strong)) == pytest.approx(math.log(2) / 2, abs=1e-6)
    assert float(FixMatch(0.95)(weak, strong)) == 0
    assert float(FixMatch(0.4)(weak, strong)) == pytest.approx((math.log(2) + math.log(10)) / 2, abs=1e-6)


def test_freematch_asks_less_of_a_class_that_is_rarely_predicted() -> None:
    layer, _ = pair_of("freematch", 3, momentum=0.5)
    common = np.log(np.float32([[0.9, 0.06, 0.04]] * 9 + [[0.3, 0.2, 0.5]]))
    losses_of(layer, [(common, common)] * 20)
    thresholds = np.asarray(layer.class_means) / np.asarray(layer.class_means).max() * float(layer.level)
    assert thresholds[0] == pytest.approx(0.86, abs=0.01)
    assert thresholds[2] < 0.1


def test_no_image_counts_and_no_loss_is_not_a_number() -> None:
    for method in ("fixmatch", "freematch", "softmatch"):
        layer, _ = pair_of(method, 3)
        for value in (0.0, 200.0):
            flat = np.full((4, 3), value, np.float32)
            assert np.isfinite(float(layer(flat, flat)))
        sure = np.float32([[300.0, -300.0, 0.0]] * 4)
        assert np.isfinite(float(layer(sure, -sure)))


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
@pytest.mark.parametrize("method", ["fixmatch", "freematch", "softmatch"])
def test_only_the_strong_view_is_trained(method: str) -> None:
    import keras

    class Two(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.rule, _ = pair_of(method, 3, momentum=0.5)
            self.weak, self.strong = keras.layers.Dense(3), keras.layers.Dense(3)

        def call(self, inputs, training=False):
            self.add_loss(self.rule(8 * self.weak(inputs), self.strong(inputs)))
            return inputs

    model = Two()
    data = np.random.default_rng(0).normal(0, 1, (32, 4)).astype(np.float32)
    model(data)
    before = [layer.get_weights()[0] for layer in (model.weak, model.strong)]
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    model.fit(data, epochs=1, batch_size=32, verbose=0)
    np.testing.assert_array_equal(model.weak.get_weights()[0], before[0])
    assert np.abs(model.strong.get_weights()[0] - before[1]).max() > 1e-4
