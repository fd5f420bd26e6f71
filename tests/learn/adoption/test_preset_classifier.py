"""KerasHub preset folders: the classifier in one, with its preparation, and none whose parts are others' code."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selftrain.errors import UntrustedFileError
from selftrain.learn.adoption.adopt import Known, adopt
from selftrain.learn.adoption.formats import Format, format_of, name_of, open_brought, side_of
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
SIDE = 32


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder that KerasHub wrote, and the classifier in it."""
    import keras_hub

    network = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[3], stackwise_num_filters=[64], stackwise_num_blocks=[1],
        stackwise_num_strides=[1], block_type="basic_block", image_shape=(SIDE, SIDE, 3),
    )  # fmt: skip
    converter = keras_hub.layers.ResNetImageConverter(image_size=(SIDE, SIDE), scale=1 / 127.5, offset=-1)
    classifier = keras_hub.models.ResNetImageClassifier(
        network, num_classes=3, preprocessor=keras_hub.models.ResNetImageClassifierPreprocessor(converter)
    )
    folder = tmp_path_factory.mktemp("preset") / "mine"
    classifier.save_to_preset(str(folder))
    return folder, classifier


def test_a_classifier_answers_as_kerashub_does_with_its_own_preparation(preset: tuple[Path, Any]) -> None:
    folder, classifier = preset
    assert format_of(folder) is Format.PRESET
    assert side_of(folder) == SIDE
    assert name_of(folder) == "ResNetImageClassifier"
    shown = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.float32)
    wanted = classifier.predict(shown, verbose=0)
    np.testing.assert_allclose(open_brought(folder).predict(shown, verbose=0), wanted, atol=1e-4)


def test_it_is_adopted_and_saved_as_one_of_ours(preset: tuple[Path, Any], tmp_path: Path) -> None:
    folder, classifier = preset
    model, contract = adopt(folder, class_names=("a", "b", "c"), image_size=SIDE, known=Known(pixels="0..255"))
    again, _ = load(save(model, contract, tmp_path / "ours").folder)
    shown = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.float32)
    np.testing.assert_allclose(again.predict(shown, verbose=0), classifier.predict(shown, verbose=0), atol=1e-4)


@pytest.mark.parametrize(
    "part",
    [{"module": "os", "class_name": "system"}, {"module": "keras.layers", "class_name": "Lambda"}],
)
def test_parts_that_are_not_of_kerashub_are_refused(
    preset: tuple[Path, Any], tmp_path: Path, part: dict[str, str]
) -> None:
    folder = shutil.copytree(preset[0], tmp_path / "changed")
    task = json.loads((folder / "task.json").read_text())
    task["config"]["activation"] = {**part, "config": {}, "registered_name": None}
    (folder / "task.json").write_text(json.dumps(task))
    with pytest.raises(UntrustedFileError, match="code in a file is never run"):
        open_brought(folder)


def test_an_encoder_alone_is_no_classifier(preset: tuple[Path, Any], tmp_path: Path) -> None:
    preset[1].backbone.save_to_preset(str(tmp_path / "encoder"))
    with pytest.raises(UntrustedFileError, match="an encoder, which names no classes"):
        open_brought(tmp_path / "encoder")
