"""Copies of networks answer as they do; in mixed precision layers compute in bfloat16, and what is kept is float32."""

from pathlib import Path

import numpy as np
import pytest

from tests.learn.training.test_run import RECIPE, bars, run, small_model

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

MIXED = RECIPE.model_copy(update={"precision": "mixed_bfloat16"})


def at_precision(model, precision):
    from selftrain.learn.networks.copies import at_precision

    return at_precision(model, precision)


def every_layer(model):
    import keras

    for layer in model.layers:
        yield from every_layer(layer) if isinstance(layer, keras.Model) else [layer]


def test_layers_compute_in_bfloat16_on_float32_weights_and_the_last_answers_in_float32() -> None:
    import keras

    copy = at_precision(small_model(), "mixed_bfloat16")
    *inner, last = [each for each in every_layer(copy) if not isinstance(each, keras.layers.InputLayer)]
    assert {each.compute_dtype for each in inner} == {"bfloat16"}
    assert last.compute_dtype == "float32"
    assert {variable.dtype for variable in copy.trainable_variables} == {"float32"}


def test_the_copy_answers_as_the_model_up_to_bfloat16s_eight_bits() -> None:
    model, images = small_model(), bars(32, 5).pixels.gather(np.arange(32))
    exact, lowered = (each.predict_on_batch(images) for each in (model, at_precision(model, "mixed_bfloat16")))
    assert lowered.dtype == np.float32
    assert not np.array_equal(exact, lowered)
    assert np.abs(exact - lowered).max() <= 2**-5 * np.abs(exact).max()


def test_float32_is_the_model_itself() -> None:
    model = small_model()
    assert at_precision(model, "float32") is model


def test_the_policy_of_the_process_is_as_it_was() -> None:
    import keras

    before = keras.config.dtype_policy().name
    at_precision(small_model(), "mixed_bfloat16")
    assert keras.config.dtype_policy().name == before == "float32"


def test_a_training_in_it_learns_and_gives_a_float32_model(tmp_path: Path) -> None:
    trained = run(tmp_path, MIXED)
    assert max(trained.curve["validation_accuracy"].to_pylist()) >= 0.9
    assert {each.compute_dtype for each in every_layer(trained.model)} == {"float32"}


def test_the_steps_are_not_those_of_float32(tmp_path: Path) -> None:
    exact, mixed = (run(tmp_path / each.precision, each).curve["loss"].to_pylist() for each in (RECIPE, MIXED))
    assert exact != mixed
    assert np.allclose(exact, mixed, atol=0.2)


def test_a_killed_training_in_it_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", MIXED)

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", MIXED, checkpoint_s=0.0, progress=stop)
    seen: list[int] = []
    again = run(tmp_path / "part", MIXED, progress=lambda done, total, note="": seen.append(done))
    assert seen[0] == 31
    assert again.curve["validation_accuracy"].to_pylist() == whole.curve["validation_accuracy"].to_pylist()
    for ours, theirs in zip(again.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["efficientnet_b0_050", "wide_resnet_16_1", "MobileNet", "ResNet50", "MobileNetV3Small"]
)
def test_every_family_of_networks_has_a_copy_in_bfloat16(name: str) -> None:
    import keras

    from selftrain.learn.networks.backbones import build

    model = build(name, image_size=32, classes=3)
    copy = at_precision(model, "mixed_bfloat16")
    convolutions = [each for each in every_layer(copy) if isinstance(each, keras.layers.Conv2D)]
    assert {each.compute_dtype for each in convolutions} == {"bfloat16"}
    for ours, theirs in zip(copy.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
    assert copy.predict_on_batch(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 3)


@pytest.fixture(scope="module")
def normalised(tmp_path_factory: pytest.TempPathFactory):
    """An EfficientNetB0 whose weights file has statistics for its Normalization, as ImageNet's has."""
    import keras

    from selftrain.learn.networks.backbones import build
    from selftrain.learn.networks.batchnorm import layers_of_type

    path = tmp_path_factory.mktemp("donor") / "donor.weights.h5"
    donor = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    (norm,) = layers_of_type(donor, keras.layers.Normalization)
    norm.adapt(np.random.default_rng(0).uniform(0.2, 0.6, (64, 32, 32, 3)).astype(np.float32))
    donor.save_weights(path)
    return build("efficientnet_b0", image_size=32, classes=3, weights=str(path))


IMAGES = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), np.uint8)


def apart(model, other) -> float:
    """The largest difference of two models' answers, as a share of the largest answer."""
    ours, theirs = (each.predict_on_batch(IMAGES) for each in (model, other))
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.slow
def test_a_copy_normalises_images_as_its_model(normalised) -> None:
    from selftrain.learn.networks.copies import copied

    assert apart(copied(normalised), normalised) < 1e-3
    assert apart(at_precision(normalised, "mixed_bfloat16"), normalised) < 0.1


@pytest.mark.slow
def test_a_trained_model_answers_as_the_one_that_is_saved(normalised, tmp_path: Path) -> None:
    import keras

    from selftrain.config import Recipe
    from selftrain.data.store.pixels import ArrayPixels
    from selftrain.learn.training.batches import Examples

    targets, ones = np.eye(3, dtype=np.float32)[np.arange(4) % 3], np.ones(4, np.float32)
    examples = Examples(ArrayPixels(IMAGES), np.arange(4), targets, ones, ones.astype(np.bool_))
    recipe = Recipe(steps=1, batch_size=4, validate_every=1, learning_rate=1e-6, weights="its own", ema=None)
    trained = train_on(examples, normalised, recipe, tmp_path)
    trained.save(tmp_path / "model.keras")
    saved = keras.saving.load_model(tmp_path / "model.keras")
    assert apart(trained, saved) < 1e-3


def train_on(examples, model, recipe, folder: Path):
    """The model that a training of `model` gives."""
    from selftrain.learn.training.checkpoint import Checkpoints
    from selftrain.learn.training.run import train

    return train(
        model, recipe=recipe, train=examples, validation=examples, seed=0, checkpoints=Checkpoints(folder / "kept")
    ).model
