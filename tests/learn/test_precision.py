"""Mixed precision on a tiny real model: layers compute in bfloat16; what is learnt, answered and saved is float32."""

from pathlib import Path

import numpy as np
import pytest

from selftrain.errors import ConfigError
from tests.learn.test_training import RECIPE, bars, run, small_model

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
]

MIXED = RECIPE.model_copy(update={"precision": "mixed_bfloat16"})


def at_precision(model, precision):
    from selftrain.learn.precision import at_precision

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
    stopped: list[int] = []

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 30:
            stopped.append(done)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", MIXED, checkpoint_s=0.0, progress=stop)
    again = run(tmp_path / "part", MIXED)
    assert stopped
    assert again.curve["validation_accuracy"].to_pylist() == whole.curve["validation_accuracy"].to_pylist()
    for ours, theirs in zip(again.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("name", ["efficientnet_b0_050", "wide_resnet_16_1", "MobileNet"])
def test_every_family_of_networks_has_a_copy(name: str) -> None:
    import keras

    from selftrain.learn.backbones import build

    model = build(name, image_size=32, classes=3)
    copy = at_precision(model, "mixed_bfloat16")
    convolutions = [each for each in every_layer(copy) if isinstance(each, keras.layers.Conv2D)]
    assert {each.compute_dtype for each in convolutions} == {"bfloat16"}
    for ours, theirs in zip(copy.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_model_of_a_class_of_its_own_is_refused() -> None:
    import keras

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="own")
            self.dense = keras.layers.Dense(2)

        def call(self, images):
            return self.dense(images)

    model = Own()
    model(np.zeros((1, 3), np.float32))
    with pytest.raises(ConfigError, match=r"own cannot be trained in mixed_bfloat16.*set precision to float32"):
        at_precision(model, "mixed_bfloat16")
