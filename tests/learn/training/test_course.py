"""Training from labels and unlabelled images at once, on a tiny real model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from selftrain.config import Consistency, Recipe, Student
from selftrain.data.store.pixels import ArrayPixels
from selftrain.learn.training.batches import Examples
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.learn.training.defaults import finish, smoothing

pytestmark = [
    pytest.mark.keras,
    # Keras warns that fit does not shuffle a Grain pipeline: it is shuffled by us.
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
]

METHODS = ("fixmatch", "freematch", "softmatch")
POOL, HELD_OUT, SIZE = 400, 200, 8
LEARNING = {
    "steps": 90, "batch_size": 4, "learning_rate": 0.01, "ema": 0.9, "augmentation": "digits", "validate_every": 30,
    "dropout": 0.0, "label_smoothing": 0.0,
}  # fmt: skip


def settings_of(method: str, *, threshold: float = 0.8, ramp_up: float = 0.0) -> Consistency:
    own = {"threshold": threshold} if method == "fixmatch" else {"momentum": 0.9}
    return Consistency(mu=8, ramp_up=ramp_up, **own)


def blobs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 8, 8, 3) of a Gaussian blob somewhere, lying (0) or standing (1), in noise; and their classes (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    rows, columns = np.mgrid[:SIZE, :SIZE]
    images = rng.normal(40, 35, (n, SIZE, SIZE, 3))
    for image, label, (x, y) in zip(images, labels, rng.uniform(2, SIZE - 3, (n, 2)), strict=True):
        wide, high = (2.2, 0.8) if label == 0 else (0.8, 2.2)
        image += 170 * np.exp(-((((columns - x) / wide) ** 2 + ((rows - y) / high) ** 2) / 2))[..., None]
    return images.clip(0, 255).astype(np.uint8), labels


def examples(pixels: ArrayPixels, labels: np.ndarray, rows: np.ndarray) -> Examples:
    targets = np.eye(2, dtype=np.float32)[labels[rows]]
    return Examples(pixels, rows, targets, np.ones(len(rows), np.float32), np.ones(len(rows), np.bool_))


def small_model(seed: int):
    import keras

    keras.utils.set_random_seed(seed)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    inner = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, use_bias=False)(inner)
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))
    backbone = keras.Model(inner, keras.layers.Conv2D(8, 3, activation="relu")(x), name="backbone")
    x = keras.layers.GlobalMaxPooling2D()(backbone(keras.layers.Rescaling(1 / 127.5, -1)(image)))
    return keras.Model(image, keras.layers.Dense(2, name="logits")(x), name="small")


def trained(folder: Path, recipe: Recipe, *, seed: int = 0, checkpoint_s: float = 30.0, **options):
    """Two labels, a pool of POOL; `validation_accuracy` of the curve is on HELD_OUT other images."""
    from selftrain.learn.training.course import Unlabeled
    from selftrain.learn.training.run import train

    images, labels = blobs(2 + POOL + HELD_OUT, seed=2)
    pixels = ArrayPixels(images)
    in_training = isinstance(recipe, Student) and recipe.method != "noisy_student"
    return train(
        small_model(seed),
        recipe=recipe,
        train=examples(pixels, labels, np.arange(2)),
        validation=examples(pixels, labels, np.arange(2 + POOL, len(labels))),
        seed=seed,
        checkpoints=Checkpoints(folder, checkpoint_s),
        unlabeled=Unlabeled(np.arange(2 + POOL), recipe.method, recipe.consistency) if in_training else None,
        **options,
    )


def accuracy(outcome) -> float:
    return float(outcome.curve["validation_accuracy"].to_pylist()[-1])


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> float:
    return accuracy(trained(tmp_path_factory.mktemp("supervised"), Recipe(**LEARNING)))


@pytest.mark.parametrize("method", METHODS)
def test_two_labels_and_a_pool_teach_what_two_labels_do_not(method: str, supervised: float, tmp_path: Path) -> None:
    outcome = trained(tmp_path, Student(method=method, consistency=settings_of(method), **LEARNING))
    assert accuracy(outcome) >= max(0.97, supervised + 0.1)
    assert outcome.image_steps == 90 * 4 * (1 + 2 * 8)


@pytest.mark.parametrize("method", METHODS)
def test_an_unlabelled_loss_of_the_other_sign_unteaches(method: str, supervised: float, tmp_path: Path) -> None:
    against = settings_of(method).model_copy(update={"weight": -1.0})
    assert accuracy(trained(tmp_path, Student(method=method, consistency=against, **LEARNING))) < supervised


def unlabeled_losses(settings: Consistency, method: str, *, steps: int) -> list[float]:
    """The unlabelled loss of each of `steps` steps and of one of the finish, all of the same unchanged images."""
    from selftrain.learn.training.course import Unlabeled, course

    images, labels = blobs(20, seed=0)
    changes = {"steps": steps, "finish_steps": 1, "augmentation": "none"}
    chosen = course(
        Student(method=method, consistency=settings, **{**LEARNING, **changes}),
        examples(ArrayPixels(images), labels, np.arange(2)),
        min_human_share=1.0,
        seed=0,
        unlabeled=Unlabeled(np.arange(20), method, settings),
    )
    trainer = chosen.trainer(small_model(0))
    losses = []
    for _ in range(steps + 1):
        trainer((images[:4], images), training=True)
        losses.append(float(sum(trainer.losses)))
    return losses


@pytest.mark.parametrize("method", METHODS)
def test_the_unlabelled_loss_rises_evenly_to_its_weight_over_the_share_of_the_steps_that_ramp_up_names(method) -> None:
    own = {"threshold": 0.0} if method == "fixmatch" else {"momentum": 0.0}  # every step knows of the same batch
    settings = Consistency(weight=2.0, **own)
    full = unlabeled_losses(settings, method, steps=6)
    assert full[0] > 0
    assert full == pytest.approx([full[0]] * 6 + [0], rel=1e-4)
    rising = unlabeled_losses(settings.model_copy(update={"ramp_up": 0.5}), method, steps=6)
    assert rising == pytest.approx([full[0] * share for share in (1 / 3, 2 / 3, 1, 1, 1, 1, 0)], rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_the_unlabelled_loss_counts_by_its_weight(method: str) -> None:
    own = {"fixmatch": {"threshold": 0.0}, "freematch": {"fairness": 0.0}, "softmatch": {}}[method]
    (once, _), (twice, _) = (
        unlabeled_losses(Consistency(weight=weight, **own), method, steps=1) for weight in (1.0, 2.0)
    )
    assert twice == pytest.approx(2 * once, rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_in_the_finish_the_labels_teach_alone(method: str) -> None:
    from selftrain.learn.training.course import Unlabeled, course

    images, labels = blobs(20, seed=0)
    settings = settings_of(method, threshold=0.0)  # every image counts
    recipe = Student(method=method, consistency=settings, **{**LEARNING, "steps": 2, "finish_steps": 2})
    chosen = course(
        recipe,
        examples(ArrayPixels(images), labels, np.arange(2)),
        min_human_share=1.0,
        seed=0,
        unlabeled=Unlabeled(np.arange(20), method, settings),
    )
    trainer = chosen.trainer(small_model(0))
    unlabeled_losses = []
    for inputs, _, _ in chosen.dataset(0, 4):
        trainer(inputs, training=True)
        unlabeled_losses.append(float(sum(trainer.losses)))
    assert all(loss != 0 for loss in unlabeled_losses[:2])
    assert unlabeled_losses[2:] == [0, 0]


def test_a_training_killed_in_the_finish_goes_on_without_the_unlabelled_loss(tmp_path: Path) -> None:
    from selftrain.learn.networks.variables import read

    settings = settings_of("fixmatch", threshold=0.0)
    steps = {"steps": 4, "finish_steps": 4, "validate_every": 4}
    recipe = Student(method="fixmatch", consistency=settings, **{**LEARNING, **steps})
    whole = trained(tmp_path / "whole", recipe)

    class KilledError(Exception):
        pass

    def kill(done: int, total: int, note: str = "") -> None:
        if done == 6:
            raise KilledError

    with pytest.raises(KilledError):
        trained(tmp_path / "killed", recipe, checkpoint_s=1e-9, progress=kill)
    resumed = trained(tmp_path / "killed", recipe)
    for one, other in zip(read(whole.model.weights), read(resumed.model.weights), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(whole.curve["loss"].to_pylist(), resumed.curve["loss"].to_pylist(), rtol=1e-4)


def test_a_teachers_certainty_is_not_smoothed_and_its_hard_label_is() -> None:
    from selftrain.learn.training.course import course

    images, labels = blobs(4, seed=0)
    given = replace(
        examples(ArrayPixels(images), labels, np.arange(4)),
        human=np.array([True, False, False, False]),
        hard=np.array([True, True, False, False]),
    )
    prepared = course(Recipe(label_smoothing=0.2), given, min_human_share=0.0, seed=0, unlabeled=None)
    np.testing.assert_allclose(prepared.batches.examples.targets, [[0.9, 0.1], [0.1, 0.9], [1, 0], [0, 1]], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_training_goes_on_to_the_same_weights(method: str, tmp_path: Path) -> None:
    from selftrain.learn.networks.variables import read

    settings = settings_of(method, threshold=0.5, ramp_up=0.5)
    recipe = Student(method=method, consistency=settings, **{**LEARNING, "steps": 12, "validate_every": 6})
    whole = trained(tmp_path / "whole", recipe)

    class KilledError(Exception):
        pass

    def kill(done: int, total: int, note: str = "") -> None:
        if done == 8:
            raise KilledError

    with pytest.raises(KilledError):
        trained(tmp_path / "killed", recipe, checkpoint_s=1e-9, progress=kill)
    seen: list[int] = []
    resumed = trained(tmp_path / "killed", recipe, progress=lambda done, total, note="": seen.append(done))
    assert seen == [9, 10, 11, 12]
    for one, other in zip(read(whole.model.weights), read(resumed.model.weights), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(whole.curve["loss"].to_pylist(), resumed.curve["loss"].to_pylist(), rtol=1e-4)


def test_another_method_or_another_pool_is_another_training() -> None:
    from selftrain.learn.training.course import Unlabeled, course

    images, labels = blobs(20, seed=0)
    train = examples(ArrayPixels(images), labels, np.arange(2))

    def digest(method: str = "fixmatch", pool: int = 20, **settings: float) -> str:
        recipe = Student(method=method, consistency=Consistency(**settings))
        unlabeled = Unlabeled(np.arange(pool), method, recipe.consistency)
        return course(recipe, train, min_human_share=0.0, seed=0, unlabeled=unlabeled).digest

    assert digest() == digest()
    assert len({digest(), digest("softmatch"), digest(pool=19), digest(mu=2)}) == 4


def test_a_noisy_student_ends_with_a_short_finish_on_human_labels_and_others_only_when_asked_to() -> None:
    from selftrain.config import Teacher

    assert finish(Student(steps=200)) == 10
    assert finish(Student(steps=200, finish_steps=0)) == 0
    assert finish(Student(steps=200, method="fixmatch")) == finish(Teacher(steps=200)) == 0
    assert finish(Student(steps=200, method="fixmatch", finish_steps=7)) == finish(Teacher(finish_steps=7)) == 7


def test_smoothing_is_off_in_training_unless_asked_for_and_mixing_is_refused() -> None:
    from selftrain.errors import ConfigError

    assert smoothing(Student()) == 0.1
    assert smoothing(Student(method="fixmatch")) == 0.0
    assert smoothing(Student(method="fixmatch", label_smoothing=0.05)) == 0.05
    with pytest.raises(ConfigError, match="only noisy_student mixes"):
        Student(method="fixmatch", mixup=0.2)
