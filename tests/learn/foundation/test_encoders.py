"""Encoders are KerasHub's own networks behind KerasHub's own preprocessing; tiny presets stand for the published."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
from numpy.typing import NDArray

from selftrain.config import Teacher
from selftrain.errors import BackboneError
from selftrain.learn.foundation import presets
from selftrain.learn.foundation.encoders import image_encoder, prepared
from selftrain.learn.models.contract import Contract
from selftrain.learn.models.features import feature_network
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save
from selftrain.learn.networks.backbones import build, untrained
from tests.learn.foundation import tiny_presets

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
FAST, SLOW = ("vit", "dinov2"), ("dinov3", "resnet", "mobilenet", "clip", "siglip")
MAKERS = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.fixture(scope="module", params=MAKERS)
def preset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    keras.utils.set_random_seed(1)
    return str(getattr(tiny_presets, request.param)(tmp_path_factory.mktemp("presets") / request.param))


@pytest.fixture(scope="module")
def model(preset: str) -> keras.Model:
    return build(f"keras_hub:{preset}", image_size=48, classes=3)


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)


def asked(model: keras.Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(keras.ops.convert_to_numpy(model(images, training=False)))


def test_images_are_prepared_as_the_presets_own_converter_does(preset: str, images: NDArray[np.uint8]) -> None:
    converter = presets.load_converter(preset)
    image = keras.Input((48, 48, 3))
    ours = asked(keras.Model(image, prepared(converter, image, size=(32, 32))), images)
    theirs = keras.ops.convert_to_numpy(converter(images.astype(np.float32)))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert ours.shape == (3, 32, 32, 3)


def test_features_are_those_of_the_presets_own_network(
    preset: str, model: keras.Model, images: NDArray[np.uint8]
) -> None:
    ours = feature_network(model).predict_on_batch(images)
    network = keras_hub.models.Backbone.from_preset(preset)
    seen = presets.load_converter(preset)(images.astype(np.float32))
    if hasattr(network, "get_vision_embeddings"):
        theirs = network.get_vision_embeddings(seen)
    else:
        answers = network({next(iter(network.input)): seen} if isinstance(network.input, dict) else seen)
        theirs = answers[:, 0] if len(answers.shape) == 3 else keras.ops.mean(answers, axis=(1, 2))
    np.testing.assert_allclose(ours, keras.ops.convert_to_numpy(theirs), atol=1e-5)


def test_a_saved_model_loads_in_safe_mode_and_answers_the_same(
    preset: str, model: keras.Model, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    contract = Contract(backbone=f"keras_hub:{preset}", image_size=48, class_names=("a", "b", "c"))
    saved = save(model, contract, tmp_path / "model")
    loaded, promised = load(saved.folder)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(images)), asked(model, images))  # no `training`
    np.testing.assert_array_equal(asked(loaded, images), asked(model, images))
    assert promised.backbone == f"keras_hub:{preset}"
    assert not model.get_layer("backbone").trainable_weights


def test_dinov2_reads_images_of_the_converters_size(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    folder = str(tiny_presets.dinov2(tmp_path / "dinov2", side=40))
    ours = feature_network(build(f"keras_hub:{folder}", image_size=48, classes=3)).predict_on_batch(images)
    network = keras_hub.models.Backbone.from_preset(folder, image_shape=(40, 40, 3))
    theirs = network({"images": presets.load_converter(folder)(images.astype(np.float32))})[:, 0]
    np.testing.assert_allclose(ours, keras.ops.convert_to_numpy(theirs), atol=1e-5)


@pytest.mark.slow
def test_a_fresh_process_loads_a_saved_model_without_importing_kerashub_first(tmp_path: Path) -> None:
    model = build(f"keras_hub:{tiny_presets.vit(tmp_path / 'vit')}", image_size=48, classes=3)
    contract = Contract(backbone="keras_hub:vit", image_size=48, class_names=("a", "b", "c"))
    folder = save(model, contract, tmp_path / "model").folder
    code = (
        "import sys; from pathlib import Path; from selftrain.learn.models.loading import load; "
        "assert 'keras_hub' not in sys.modules; print(load(Path(sys.argv[1]))[0].output_shape)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(None, 3)"


def test_a_classifier_of_kerashub_takes_the_same_vector(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    folder = str(tiny_presets.vit(tmp_path / "vit"))
    task = keras_hub.models.ImageClassifier.from_preset(folder, num_classes=3)
    model = build(f"keras_hub:{folder}", image_size=48, classes=3)
    model.get_layer("logits").set_weights(task.output_dense.get_weights())
    theirs = task.predict(images.astype(np.float32), verbose=0)
    np.testing.assert_allclose(asked(model, images), theirs, atol=1e-5)


def test_a_preset_that_does_not_read_images_alone_is_refused() -> None:
    text = keras_hub.models.BertBackbone(
        vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4, max_sequence_length=4
    )
    with pytest.raises(BackboneError, match="BertBackbone, which does not read RGB images alone"):
        image_encoder(text, "bert")


def test_a_preset_is_not_trained_in_steps() -> None:
    with pytest.raises(BackboneError, match="stays frozen and cannot be trained in steps"):
        untrained(Teacher(), "keras_hub:vit", image_size=32, classes=2, seed=0)
