"""The distillation loss: a golden number, the paper's sum written out, and what its gradients do."""

import math

import numpy as np
import pytest

pytestmark = pytest.mark.keras


def naive(logits: np.ndarray, soft: np.ndarray, labels: np.ndarray, warm: float, weight: float) -> float:
    """arXiv:1503.02531, section 2, an image and a class at a time."""
    total = 0.0
    for z, p, y in zip(logits.astype(float), soft.astype(float), labels.astype(float), strict=True):
        at_warm = [math.exp(each / warm) for each in z]
        at_one = [math.exp(each) for each in z]
        teacher = sum(-share * math.log(each / sum(at_warm)) for share, each in zip(p, at_warm, strict=True))
        label = sum(-share * math.log(each / sum(at_one)) for share, each in zip(y, at_one, strict=True))
        total += (1 - weight) * warm**2 * teacher + weight * label
    return total / len(logits)


def arrays(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(5, 3)).astype(np.float32) * 3
    soft = rng.dirichlet(np.ones(3), 5).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 5)] * (np.arange(5) < 3)[:, None].astype(np.float32)
    return logits, soft, labels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("warm", "weight"), [(1.0, 0.0), (3.0, 0.1), (10.0, 0.5), (2.0, 1.0)])
def test_the_loss_is_the_papers_sum(seed: int, warm: float, weight: float) -> None:
    from selftrain.learn.distillation.soft_targets import Softening, distillation_loss

    logits, soft, labels = arrays(seed)
    found = float(distillation_loss(logits, soft, labels, Softening(warm, weight)))
    assert found == pytest.approx(naive(logits, soft, labels, warm, weight), rel=1e-6)


def test_two_rows_by_hand() -> None:
    from selftrain.learn.distillation.soft_targets import Softening, distillation_loss

    logits = np.zeros((2, 4), np.float32)  # both models know nothing: log 4 each, times the temperature's square
    soft = np.full((2, 4), 0.25, np.float32)
    labels = np.float32([[1, 0, 0, 0], [0, 0, 0, 0]])  # the second image has none
    found = float(distillation_loss(logits, soft, labels, Softening(2.0, 0.5)))
    assert found == pytest.approx(0.5 * 4 * math.log(4) + 0.5 * math.log(4) / 2, rel=1e-6)


def test_training_on_the_targets_moves_the_logits_to_the_teachers() -> None:
    import keras

    from selftrain.learn.distillation.soft_targets import DistillingTrainer, Softening, both_targets

    keras.utils.set_random_seed(0)
    logits, _, labels = arrays(0)
    warm = logits / 3
    soft = np.exp(warm) / np.exp(warm).sum(axis=1, keepdims=True)
    image = keras.Input((5,))
    model = DistillingTrainer(image, keras.layers.Dense(3)(image), Softening(3.0, 0.0))
    model.compile(keras.optimizers.Adam(0.1), jit_compile=False)
    x = np.eye(5, dtype=np.float32)
    losses = [model.train_on_batch(x, both_targets(soft, labels), return_dict=True)["loss"] for _ in range(150)]
    assert losses[-1] < losses[0]
    found = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(found - found.mean(1, keepdims=True), logits - logits.mean(1, keepdims=True), atol=0.3)
