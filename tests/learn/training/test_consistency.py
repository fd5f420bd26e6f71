"""Consistency rules beside per-image loops written from the papers."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.config import Consistency

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


@contextmanager
def double_precision() -> Iterator[None]:
    """Layers that are built inside compute in float64: what is left of a difference to the papers is no rounding."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


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
        self.thresholds = [1 / classes] * classes
        self.means, self.histogram = [1 / classes] * classes, [1 / classes] * classes

    def __call__(self, weak: np.ndarray, strong: np.ndarray) -> float:
        n, m = len(weak), self.momentum
        q = [softmax(row) for row in weak]
        self.level = m * self.level + (1 - m) * sum(max(row) for row in q) / n
        for c in range(self.classes):
            self.means[c] = m * self.means[c] + (1 - m) * sum(row[c] for row in q) / n
            share = sum(argmax(row) == c for row in q) / n
            self.histogram[c] = m * self.histogram[c] + (1 - m) * share
        self.thresholds = [mean / max(self.means) * self.level for mean in self.means]
        kept = [i for i in range(n) if max(q[i]) >= self.thresholds[argmax(q[i])]]
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
        q = [softmax(row) for row in weak]
        weights = self.weights_after(q)
        losses = [cross_entropy(other, argmax(row)) for row, other in zip(q, strong, strict=True)]
        return sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / len(weak)

    def weights_after(self, q: list[list[float]]) -> list[float]:
        n, m = len(q), self.momentum
        self.means = [m * mean + (1 - m) * sum(row[c] for row in q) / n for c, mean in enumerate(self.means)]
        sure = []
        for row in q:
            aligned = [each / (mean + 1e-6) for each, mean in zip(row, self.means, strict=True)]
            sure.append(max(aligned) / sum(aligned))
        batch_mean = sum(sure) / n
        self.mean = m * self.mean + (1 - m) * batch_mean
        self.variance = m * self.variance + (1 - m) * sum((each - batch_mean) ** 2 for each in sure) / (n - 1)
        sigma = math.sqrt(self.variance) / self.n_sigma
        return [math.exp(-(min(each - self.mean, 0.0) ** 2) / (2 * sigma**2)) for each in sure]


def pair_of(method: str, classes: int, momentum: float = 0.7):
    from selftrain.learn.training.consistency import FixMatch, FreeMatch, SoftMatch

    match method:
        case "fixmatch":
            return FixMatch(0.8), NaiveFixMatch(0.8)
        case "freematch":
            settings = {"momentum": momentum, "fairness": 0.3}
            return FreeMatch(classes, **settings), NaiveFreeMatch(classes, **settings)
        case _:
            settings = {"momentum": momentum, "n_sigma": 2.0}
            return SoftMatch(classes, **settings), NaiveSoftMatch(classes, **settings)


METHODS = ["fixmatch", "freematch", "softmatch"]
drawn = {"classes": st.integers(2, 7), "n": st.integers(2, 20), "spread": st.floats(0.1, 8), "seed": st.integers(0)}
momenta = pytest.mark.parametrize("momentum", [0.7, 0.99])


@momenta
@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10)
@given(**drawn)
def test_a_loss_is_that_of_a_loop_over_images_to_a_millionth(method, momentum, classes, n, spread, seed) -> None:
    with double_precision():
        layer, naive = pair_of(method, classes, momentum)
        pairs = batches(classes, n=n, spread=spread, seed=seed)
        np.testing.assert_allclose(losses_of(layer, pairs), [naive(*pair) for pair in pairs], rtol=0, atol=1e-6)


@momenta
@settings(max_examples=10)
@given(**drawn)
def test_freematchs_thresholds_are_the_papers_to_a_millionth(momentum, classes, n, spread, seed) -> None:
    with double_precision():
        layer, naive = pair_of("freematch", classes, momentum)
        for pair in batches(classes, n=n, spread=spread, seed=seed):
            layer(*pair)
            naive(*pair)
            np.testing.assert_allclose(np.asarray(layer.thresholds()), naive.thresholds, rtol=0, atol=1e-6)
            np.testing.assert_allclose(np.asarray(layer.histogram), naive.histogram, rtol=0, atol=1e-6)


@momenta
@settings(max_examples=10)
@given(**drawn)
def test_softmatchs_weights_are_the_papers_to_a_millionth(momentum, classes, n, spread, seed) -> None:
    with double_precision():
        layer, naive = pair_of("softmatch", classes, momentum)
        for weak, _ in batches(classes, n=n, spread=spread, seed=seed):
            probs = np.float64([softmax(row) for row in weak])
            weights = np.asarray(layer.weights_after(probs))
            np.testing.assert_allclose(weights, naive.weights_after(probs.tolist()), rtol=0, atol=1e-6)
            state = [float(layer.mean), float(layer.variance)]
            np.testing.assert_allclose(state, [naive.mean, naive.variance], rtol=0, atol=1e-6)


@momenta
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_in_the_precision_of_training_a_rule_still_agrees(method: str, momentum: float, seed: int) -> None:
    layer, naive = pair_of(method, 5, momentum)
    pairs = batches(5, seed=seed)
    np.testing.assert_allclose(losses_of(layer, pairs), [naive(*pair) for pair in pairs], rtol=2e-5, atol=1e-6)


def test_freematch_keeps_the_state_that_a_pools_thresholds_are_computed_from() -> None:
    from selftrain.selflabel.selection.adaptive import fresh_adaptive, fresh_gaussian, update_adaptive, update_gaussian

    free, _ = pair_of("freematch", 4)
    soft, _ = pair_of("softmatch", 4)
    adaptive, gaussian, means = fresh_adaptive(4), fresh_gaussian(4), np.full(4, 0.25)
    for weak, strong in batches(4):
        free(weak, strong)
        soft(weak, strong)
        probs = np.float64([softmax(row) for row in weak])
        adaptive = update_adaptive(adaptive, probs, momentum=0.7)
        means = 0.7 * means + 0.3 * probs.mean(axis=0)
        aligned = probs / (means + 1e-6)
        gaussian = update_gaussian(gaussian, aligned.max(axis=1) / aligned.sum(axis=1), momentum=0.7)
    assert float(free.level) == pytest.approx(adaptive.level, abs=1e-6)
    np.testing.assert_allclose(np.asarray(free.class_means), adaptive.class_means, atol=1e-6)
    assert (float(soft.mean), float(soft.variance)) == pytest.approx((gaussian.mean, gaussian.variance), abs=1e-6)


def test_fixmatch_by_hand() -> None:
    from selftrain.learn.training.consistency import FixMatch

    weak = np.log(np.float32([[0.9, 0.05, 0.05], [0.5, 0.3, 0.2]]))
    strong = np.log(np.float32([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    assert float(FixMatch(0.8)(weak, strong)) == pytest.approx(math.log(2) / 2, abs=1e-6)
    assert float(FixMatch(0.95)(weak, strong)) == 0
    assert float(FixMatch(0.4)(weak, strong)) == pytest.approx((math.log(2) + math.log(10)) / 2, abs=1e-6)


def test_freematch_asks_less_of_a_class_that_is_rarely_predicted() -> None:
    from selftrain.learn.training.consistency import FreeMatch

    # Level (.9 + .9 + .5 + .5) / 4 = .7; means (.625, .175, .2), so bars of .7, .196 and .224: of the two images that
    # are .5 sure, that of the common class does not count.
    weak = np.log(np.float32([[0.9, 0.05, 0.05], [0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]))
    strong = np.log(np.float32([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]]))
    layer = FreeMatch(3, momentum=0.0, fairness=0.0)
    assert float(layer(weak, strong)) == pytest.approx(3 * math.log(2) / 4, abs=1e-6)
    assert np.asarray(layer.thresholds()).tolist() == pytest.approx([0.7, 0.196, 0.224], abs=1e-6)


def test_freematch_pays_for_answers_that_leave_a_class_out_by_hand() -> None:
    from selftrain.learn.training.consistency import FreeMatch

    # Both images count. Expected of the classes, means over histogram: (.5 / .5, .5 / .5), in shares (.5, .5). Both
    # strong views answer class 0, by .75: the batch's shares are (1, 0), and the other class adds .5 log 1e-12.
    weak = np.log(np.float32([[0.8, 0.2], [0.2, 0.8]]))
    strong = np.log(np.float32([[0.75, 0.25], [0.75, 0.25]]))
    hard = -(math.log(0.75) + math.log(0.25)) / 2
    layer = FreeMatch(2, momentum=0.0, fairness=0.1)
    assert float(layer(weak, strong)) == pytest.approx(hard + 0.1 * 0.5 * math.log(1e-12), abs=1e-5)


@pytest.mark.parametrize(("weight", "fairness"), [(1.0, 0.1), (3.0, 0.1), (3.0, 0.0), (0.0, 0.1)])
def test_freematchs_weight_scales_the_loss_of_its_labels_and_fairness_its_own_term_by_hand(weight, fairness) -> None:
    from selftrain.learn.training.consistency import consistency_loss

    # As above: the loss of the pseudo-labels is the mean of -log .75 and -log .25, the fairness term .5 log 1e-12.
    weak = np.log(np.float32([[0.8, 0.2], [0.2, 0.8]]))
    strong = np.log(np.float32([[0.75, 0.25], [0.75, 0.25]]))
    layer = consistency_loss("freematch", Consistency(weight=weight, fairness=fairness, momentum=0.0), classes=2)
    expected = weight * 0.836988 + fairness * -13.815511
    assert float(layer(weak, strong)) == pytest.approx(expected, abs=1e-5)


def test_softmatch_by_hand() -> None:
    from selftrain.learn.training.consistency import SoftMatch

    # Uniform class means, so nothing is aligned. Confidences .9, .9, .6, .6: mean .75, unbiased variance .03; the two
    # below the mean have the weight e^(-.15^2 * 4 / .06) = e^-1.5.
    probs = np.float32([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]])
    weights = np.asarray(SoftMatch(2, momentum=0.0, n_sigma=2.0).weights_after(probs))
    assert weights.tolist() == pytest.approx([1, 1, math.exp(-1.5), math.exp(-1.5)], abs=1e-5)


@pytest.mark.parametrize(("method", "momentum"), [("freematch", 0.5), ("softmatch", 0.5), ("softmatch", 0.0)])
def test_a_model_that_answers_one_class_for_hundreds_of_batches_keeps_a_finite_loss(method, momentum) -> None:
    layer, _ = pair_of(method, 3, momentum)
    one = np.float32([[200.0, 0.0, -200.0]] * 4)
    other = np.float32([[0.0, 200.0, -200.0], [2.0, 1.0, 0.0], [200.0, 0.0, -200.0], [0.0, 0.0, 0.0]])
    assert np.isfinite(losses_of(layer, [(one, -one)] * 300 + [(other, other)] * 3)).all()


def test_of_no_spread_softmatch_weighs_as_a_pool_is_weighed() -> None:
    from selftrain.learn.training.consistency import SoftMatch
    from selftrain.selflabel.selection.adaptive import GaussianState, gaussian_weights

    probs = np.float32([[0.75, 0.25], [0.25, 0.75]])
    layer = SoftMatch(2, momentum=0.0, n_sigma=2.0)
    of_pool = gaussian_weights([0.75, 0.75], GaussianState(0.75, 0.0))
    assert np.asarray(layer.weights_after(probs)).tolist() == of_pool.tolist() == [1.0, 1.0]


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


def test_a_rule_is_given_the_weak_and_the_strong_view_of_the_same_images_and_the_labelled_are_weak_views() -> None:
    import keras

    from selftrain.learn.training.consistency import ConsistencyTrainer

    image = keras.Input((2, 1, 1))
    seen = []

    def record(weak, strong):
        seen.append((weak, strong))
        return keras.ops.sum(0 * strong)

    trainer = ConsistencyTrainer(
        keras.Model(image, keras.layers.Flatten()(image)),  # the logits are the pixels
        record,
        weak=keras.layers.Rescaling(1, offset=10),
        strong=keras.layers.Rescaling(1, offset=100),
        ramp_steps=0,
        last_step=1,
    )
    labeled, unlabeled = (np.float32(rows).reshape(-1, 2, 1, 1) for rows in ([[1, 2]], [[3, 4], [5, 6], [7, 8]]))
    logits = trainer((labeled, unlabeled), training=True)
    weak, strong = (np.asarray(view).tolist() for view in seen[-1])
    assert np.asarray(logits).tolist() == [[11, 12]]
    assert weak == [[13, 14], [15, 16], [17, 18]]
    assert strong == [[103, 104], [105, 106], [107, 108]]
