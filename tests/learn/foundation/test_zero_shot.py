"""A zero-shot classifier answers what its dual encoder answers; tiny presets stand for the published ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
from numpy.typing import NDArray

from selftrain.errors import BackboneError
from selftrain.learn.foundation.presets import load_preprocessor
from selftrain.learn.foundation.zero_shot import zero_shot_classifier
from selftrain.learn.models.contract import Contract
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save
from tests.learn.foundation import tiny_presets

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # KerasHub's SentencePieceTokenizer leaves its file open
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
]
NAMES = ("cat", "red_fox", "n007")
CALLED = {"n007": "dog"}
TEXTS = {"cat": "cat", "red_fox": "red fox", "n007": "dog"}


@pytest.fixture(scope="module", params=["clip", pytest.param("siglip", marks=pytest.mark.slow)])
def preset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    keras.utils.set_random_seed(2)
    return str(getattr(tiny_presets, request.param)(tmp_path_factory.mktemp("presets") / request.param))


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), np.uint8)


def classifier(preset: str, *prompts: str) -> keras.Model:
    return zero_shot_classifier(preset, class_names=NAMES, prompts=prompts, called=CALLED, image_size=40)


def whole(preset: str, images: NDArray[np.uint8], prompt: str) -> NDArray[np.float32]:
    """What KerasHub's dual encoder says itself of images and the texts of NAMES."""
    texts = [prompt.format(TEXTS[name]) for name in NAMES]
    network = keras_hub.models.Backbone.from_preset(preset)
    both = load_preprocessor(preset)({"prompts": texts, "images": images[: len(texts)].astype(np.float32)})
    answers = network({"images": both["images"], "token_ids": both["token_ids"]})
    return np.asarray(keras.ops.convert_to_numpy(answers["vision_logits"]))


def test_with_one_prompt_its_logits_are_those_of_the_whole_dual_encoder(
    preset: str, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    model = classifier(preset, "a photo of a {}")
    ours = model.predict_on_batch(images)
    np.testing.assert_allclose(ours[:3], whole(preset, images, "a photo of a {}"), rtol=1e-4, atol=1e-4)
    assert ours.std(axis=1).min() > 1e-4  # the classes have different texts
    saved = save(model, Contract(backbone="zero_shot", image_size=40, class_names=NAMES), tmp_path / "model")
    np.testing.assert_array_equal(load(saved.folder)[0].predict_on_batch(images), ours)


def test_two_prompts_count_by_the_mean_direction_of_their_texts(preset: str) -> None:
    one, other, both = (
        classifier(preset, *prompts).get_layer("logits").get_weights()[0]
        for prompts in (("a {}",), ("the quick {}",), ("a {}", "the quick {}"))
    )
    length = np.linalg.norm(one, axis=0)
    mean = one + other
    np.testing.assert_allclose(both, mean / np.linalg.norm(mean, axis=0) * length, rtol=1e-3, atol=1e-5)


def test_classes_whose_texts_are_cut_off_alike_are_refused(preset: str) -> None:
    with pytest.raises(BackboneError, match="'cat' and 'red_fox' mean the same to the preset"):
        classifier(preset, "the quick brown fox jumps and jumps and jumps and jumps {}")


def test_an_encoder_of_images_alone_is_refused(tmp_path: Path) -> None:
    vit = str(tiny_presets.vit(tmp_path / "vit"))
    with pytest.raises(BackboneError, match="ViTBackbone, which embeds no text"):
        classifier(vit, "a {}")


def test_a_dual_encoder_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tiny_presets.clip(tmp_path / "clip")
    shutil.rmtree(folder / "assets")
    with pytest.raises(BackboneError, match="its preprocessor and tokenizer could not be loaded"):
        classifier(str(folder), "a {}")
