"""MixUp and CutMix of a batch."""

import numpy as np
import pytest

pytestmark = pytest.mark.keras


def mixed(images: np.ndarray, targets: np.ndarray, seed: int = 0, **alphas: float) -> tuple[np.ndarray, np.ndarray]:
    import keras

    from selftrain.learn.augmentation.mixing import Mix

    layer = Mix(**{"mixup": 0.0, "cutmix": 0.0, **alphas}, seed=seed)
    out = layer(images.astype(np.float32), targets.astype(np.float32), training=True)
    return tuple(keras.ops.convert_to_numpy(each) for each in out)


def shades(n: int = 64, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Images of one level each, 0 to 255, and one-hot targets that say which it is."""
    levels = np.linspace(0, 255, n, dtype=np.float32)
    return np.broadcast_to(levels[:, None, None, None], (n, size, size, 3)).copy(), np.eye(n, dtype=np.float32)


@pytest.mark.parametrize("alphas", [{"mixup": 0.2}, {"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_targets_hold_the_share_of_each_image_in_the_pixels(alphas: dict[str, float]) -> None:
    images, targets = shades()
    out, mixed_targets = mixed(images, targets, **alphas)
    levels = images[:, 0, 0, 0]
    np.testing.assert_allclose(mixed_targets.sum(axis=1), 1, atol=1e-5)
    assert (mixed_targets > 0).sum(axis=1).max() <= 2
    np.testing.assert_allclose(out.mean(axis=(1, 2, 3)), mixed_targets @ levels, atol=0.05)
    assert out.min() >= 0
    assert out.max() <= 255.001
    assert (mixed_targets != targets).any()


def test_cutmix_pastes_a_box_and_mixup_blends() -> None:
    images, targets = shades()
    pasted, _ = mixed(images, targets, cutmix=1.0)
    assert all(len(np.unique(image)) <= 2 for image in pasted)
    for image, source in zip(pasted, images, strict=True):
        other = image[..., 0] != source[0, 0, 0]
        assert other.sum() == other.any(axis=1).sum() * other.any(axis=0).sum()
    blended, _ = mixed(images, targets, mixup=1.0)
    assert all(np.ptp(image) < 1e-3 for image in blended)
    assert np.abs(blended - images).max() > 10


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_follow_beta(alpha: float) -> None:
    from scipy import stats

    images, targets = shades(n=4000, size=1)
    _, mixed_targets = mixed(images, targets, mixup=alpha)
    own = np.diagonal(mixed_targets)
    assert stats.kstest(own, stats.beta(alpha, alpha).cdf).pvalue > 0.001


def test_a_seed_gives_the_same_mix_another_seed_another_and_0_none() -> None:
    images, targets = shades()
    first, again, other = (mixed(images, targets, seed=seed, mixup=0.4, cutmix=1.0)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(mixed(images, targets)[0], images)


def test_the_loss_of_a_mix_is_the_mix_of_the_losses() -> None:
    import keras

    from selftrain.learn.augmentation.mixing import Mix, MixingTrainer

    network = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    trainer = MixingTrainer(network, keras.layers.Identity(), Mix(mixup=0.0, cutmix=0.0, seed=0))
    rng = np.random.default_rng(0)
    images, weights = rng.uniform(0, 1, (4, 2, 2, 3)).astype(np.float32), np.float32([1, 0.5, 2, 0])
    targets = rng.dirichlet(np.ones(3), 4).astype(np.float32)
    out = trainer((images, targets * weights[:, None]), training=True)
    logits = keras.ops.convert_to_numpy(network(images))
    wanted = 0.0
    for row, target, weight in zip(logits, targets, weights, strict=True):
        probs = np.exp(row) / np.exp(row).sum()
        wanted += weight * -sum(t * np.log(p) for t, p in zip(target, probs, strict=True)) / 4
    assert float(trainer.compute_loss(y_pred=out)) == pytest.approx(wanted, rel=1e-5)
