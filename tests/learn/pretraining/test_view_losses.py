"""The losses of two views: golden numbers, naive references from the papers, and gradients that reach both views."""

import math

import numpy as np
import pytest

pytestmark = pytest.mark.keras


def views(n: int = 6, d: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(n, d)).astype(np.float32)
    return first, (first + 0.5 * rng.normal(size=(n, d))).astype(np.float32)


def naive_barlow_twins(first: np.ndarray, second: np.ndarray, weight: float) -> float:
    """arXiv:2103.03230, eq. 1 and 2, an element at a time."""
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    d, total = first.shape[1], 0.0
    for i in range(d):
        for j in range(d):
            length = math.sqrt(sum(x * x for x in a[:, i])) * math.sqrt(sum(x * x for x in b[:, j]))
            c = sum(x * y for x, y in zip(a[:, i], b[:, j], strict=True)) / length
            total += (1 - c) ** 2 if i == j else weight * c**2
    return total


def naive_nt_xent(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """arXiv:2002.05709, eq. 1, averaged over both orders of every pair as in algorithm 1."""
    z = np.concatenate([first, second]).astype(np.float64)
    n = len(first)

    def sim(i: int, k: int) -> float:
        return float(z[i] @ z[k] / (np.linalg.norm(z[i]) * np.linalg.norm(z[k])))

    total = 0.0
    for i in range(2 * n):
        others = sum(math.exp(sim(i, k) / temperature) for k in range(2 * n) if k != i)
        total += -math.log(math.exp(sim(i, (i + n) % (2 * n)) / temperature) / others)
    return total / (2 * n)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weight", [0.005, 0.5])
def test_barlow_twins_is_the_papers_sum(seed: int, weight: float) -> None:
    from selftrain.learn.pretraining.view_losses import barlow_twins

    first, second = views(seed=seed)
    found = float(barlow_twins(first, second, off_diagonal=weight))
    assert found == pytest.approx(naive_barlow_twins(first, second, weight), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_is_the_papers_mean(seed: int, temperature: float) -> None:
    from selftrain.learn.pretraining.view_losses import nt_xent

    first, second = views(seed=seed)
    found = float(nt_xent(first, second, temperature=temperature))
    assert found == pytest.approx(naive_nt_xent(first, second, temperature), rel=1e-6, abs=1e-6)


def test_two_by_two_golden_numbers() -> None:
    from selftrain.learn.pretraining.view_losses import barlow_twins, nt_xent

    eye = np.eye(2, dtype=np.float32)
    # Over two rows every column is +-1/sqrt(2): equal columns correlate by 1, the others by -1.
    assert float(barlow_twins(eye, eye, off_diagonal=0.25)) == pytest.approx(0.5)
    assert float(barlow_twins(eye, eye[::-1], off_diagonal=0.25)) == pytest.approx(8.5)
    # Each finds its equal (similarity 1) among itself and two orthogonal ones: -log(e / (e + 2)).
    assert float(nt_xent(eye, eye, temperature=1.0)) == pytest.approx(math.log((math.e + 2) / math.e), rel=1e-6)


def test_agreeing_views_cost_less_than_shuffled_ones() -> None:
    from selftrain.learn.pretraining.view_losses import barlow_twins, nt_xent

    first, second = views(n=32)
    for loss in (barlow_twins, nt_xent):
        assert float(loss(first, second)) < float(loss(first, np.roll(second, 1, axis=0)))


@pytest.mark.parametrize("name", ["barlow_twins", "nt_xent"])
def test_gradients_reach_both_views_and_are_finite_when_all_images_embed_alike(name: str) -> None:
    import keras

    from selftrain.learn.pretraining import view_losses

    def slope(shape: tuple[int, ...], *, alike: bool) -> np.ndarray:
        layer = keras.layers.Dense(shape[1], kernel_initializer="zeros" if alike else "glorot_uniform")
        image = keras.Input(shape)
        z = layer(image)
        model = Views(image, z, getattr(view_losses, name))
        model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        before = layer.get_weights()[0]
        model.fit(np.stack(views(n=8), axis=1), np.zeros(8, np.float32), verbose=0, batch_size=8)
        return layer.get_weights()[0] - before

    class Views(keras.Model):
        def __init__(self, inputs, outputs, loss):
            super().__init__(inputs, outputs)
            self.two = loss

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return self.two(y_pred[:, 0], y_pred[:, 1])

    keras.utils.set_random_seed(0)
    assert np.abs(slope((2, 4), alike=False)).max() > 1e-4
    assert np.isfinite(slope((2, 4), alike=True)).all()
