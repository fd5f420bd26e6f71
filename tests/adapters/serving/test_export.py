"""Exports: real models in each format, run by the example beside them, which knows nothing of selftrain."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selftrain.adapters.serving.export import CONTRACT, EXAMPLE, FILES, Export, Format, check_export, export
from selftrain.adapters.serving.parity import (
    EXACT,
    ROUNDED,
    Allowed,
    Parity,
    check,
    images_of_folder,
    measure,
    probabilities,
)
from selftrain.errors import ConfigError, ExportError
from selftrain.learn.models.contract import Contract
from selftrain.learn.models.loading import load

pytestmark = [
    pytest.mark.keras,
    pytest.mark.slow,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # TensorFlow announces its interpreter's successor, which is not on every platform.
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning"),
]

Paint = Callable[..., Path]
COLOURS = ("blue", "green", "red")
FORMATS: list[Format] = ["savedmodel", "litert", "onnx"]


@pytest.fixture
def folder(paint: Paint, tmp_path: Path) -> Path:
    """Twelve images that are not square, in sub-folders, and one that cannot be read."""
    for number in range(12):
        colour = COLOURS[number % 3]
        paint(tmp_path / "images" / colour / f"{number}.png", colour, seed=number)
    (tmp_path / "images" / "broken.png").write_bytes(b"broken")
    return tmp_path / "images"


def wanted(form: Format, out: Path, **changes: object) -> Export:
    return Export(**{"form": form, "quantize": None, "out": out, "allowed": EXACT, **changes})  # type: ignore[arg-type]


def run_example(out: Path, images: list[Path]) -> list[list[str]]:
    """What the example prints in a process that does not find selftrain."""
    command = [sys.executable, "-I", str(out / EXAMPLE), *map(str, images)]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "form", [pytest.param("savedmodel", marks=pytest.mark.slow), pytest.param("litert", marks=pytest.mark.slow), "onnx"]
)
def test_the_example_labels_image_files_as_the_model_does(
    form: Format, colour_model: Path, folder: Path, tmp_path: Path
) -> None:
    model, contract = load(colour_model)
    images = images_of_folder(folder, contract.image_size, count=64)
    made = export(model, contract, images, wanted(form, tmp_path / "out"), called="colours")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([CONTRACT, EXAMPLE, FILES[form]])
    assert made.parity == Parity(images=12, agreement=1.0, largest_difference=made.parity.largest_difference)
    assert made.parity.largest_difference < 1e-5
    files = sorted(folder.rglob("*/*.png"))
    answers = run_example(tmp_path / "out", files)
    wanted_probs = probabilities(model, contract, images)
    assert [answer[:2] for answer in answers] == [[str(path), path.parent.name] for path in files]
    assert [float(answer[2]) for answer in answers] == pytest.approx(wanted_probs.max(axis=1).tolist(), abs=1e-3)
    assert "selftrain" not in (tmp_path / "out" / EXAMPLE).read_text().replace("nothing of selftrain", "")


def photo_model() -> object:
    """A small model that augments and normalizes inside, in a nested model, as keras.applications' do."""
    import keras

    keras.utils.set_random_seed(0)
    inner = keras.Input((16, 16, 3))
    shifted = keras.layers.RandomTranslation(0.4, 0.4)(keras.layers.RandomContrast(0.9)(inner))
    normal = keras.layers.Normalization(mean=[100.0, 120.0, 140.0], variance=[900.0, 400.0, 100.0])(shifted)
    features = keras.layers.Conv2D(4, 3, activation="relu")(normal)
    backbone = keras.Model(inner, keras.layers.GlobalMaxPooling2D()(features), name="backbone")
    image = keras.Input((16, 16, 3), name="image")
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.Dropout(0.5)(backbone(image))))


@pytest.mark.parametrize("form", FORMATS)
def test_a_model_that_augments_and_normalizes_inside_does_neither_at_random_nor_asks_for_its_numbers(
    form: Format, folder: Path, tmp_path: Path
) -> None:
    contract = Contract(backbone="photos", image_size=16, class_names=COLOURS, temperature=4.0)
    images = images_of_folder(folder, 16, count=64)
    made = export(photo_model(), contract, images, wanted(form, tmp_path / "out"), called="photos")  # type: ignore[arg-type]
    assert made.parity.agreement == 1
    assert made.parity.largest_difference < 1e-3
    assert json.loads((tmp_path / "out" / CONTRACT).read_text())["temperature"] == 4.0


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_a_rounded_model_is_smaller_and_agrees_within_wider_limits(
    quantize: str, colour_model: Path, folder: Path, tmp_path: Path
) -> None:
    model, contract = load(colour_model)
    images = images_of_folder(folder, contract.image_size, count=64)
    limits = ROUNDED[quantize]
    made = export(
        model, contract, images, wanted("litert", tmp_path / "out", quantize=quantize, allowed=limits), called="c"
    )
    assert made.quantize == quantize
    assert made.parity.agreement == 1


def test_a_model_that_answers_otherwise_is_refused_and_nothing_is_left_behind(
    colour_model: Path, folder: Path, tmp_path: Path
) -> None:
    model, contract = load(colour_model)
    images = images_of_folder(folder, contract.image_size, count=64)
    exactly = Allowed(agreement=1, difference=0)
    asked = wanted("litert", tmp_path / "out", quantize="int8", allowed=exactly)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ExportError, match=r"differs by up to .* at most 0 is allowed; nothing was written"):
        export(model, contract, images, asked, called="colours")
    assert sorted(tmp_path.iterdir()) == before


def test_a_layer_that_a_format_does_not_have_is_one_line_and_nothing_is_left_behind(tmp_path: Path) -> None:
    import keras

    image = keras.Input((16, 16, 3))
    edges = keras.ops.real(keras.ops.fft2((keras.ops.mean(image, axis=-1), keras.ops.zeros_like(image[..., 0])))[0])
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(edges)))
    contract = Contract(backbone="waves", image_size=16, class_names=COLOURS)
    images = np.zeros((2, 16, 16, 3), np.uint8)
    with pytest.raises(ExportError, match="does not run this model") as raised:
        export(model, contract, images, wanted("onnx", tmp_path / "out"), called="waves")
    assert len(str(raised.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="--quantize int8 goes with --format litert, not onnx"):
        check_export(wanted("onnx", tmp_path / "out", quantize="int8"))
    (tmp_path / "mine").touch()
    with pytest.raises(ConfigError, match="is not empty and was left as it is"):
        check_export(wanted("litert", tmp_path))
    with pytest.raises(ConfigError, match="is not a folder"):
        check_export(wanted("litert", tmp_path / "mine"))
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(ConfigError, match="unset KERAS_BACKEND"):
        check_export(wanted("litert", tmp_path / "out"))


def test_answers_agree_by_class_and_differ_by_their_probabilities() -> None:
    model = np.array([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]], np.float32)
    other = np.array([[0.7, 0.3], [0.6, 0.4], [0.1, 0.9]], np.float32)
    found = measure(model, other)
    assert found.agreement == pytest.approx(2 / 3)
    assert found.largest_difference == pytest.approx(0.4)
    for useless in (np.full((3, 2), np.nan, np.float32), model[:2], model[:, :1]):
        assert measure(model, useless).agreement == 0


def test_parity_must_keep_both_limits() -> None:
    found = Parity(images=10, agreement=0.9, largest_difference=0.1)
    check(found, Allowed(agreement=0.9, difference=0.1), what="it")
    for limits in (Allowed(agreement=0.91, difference=0.1), Allowed(agreement=0.9, difference=0.09)):
        with pytest.raises(ExportError, match=r"it gives 90\.0% of 10 images the same class"):
            check(found, limits, what="it")


def test_images_are_spread_over_a_folder_and_one_without_any_is_refused(folder: Path, tmp_path: Path) -> None:
    assert images_of_folder(folder, 16, count=4).shape[1:] == (16, 16, 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no image that can be read"):
        images_of_folder(tmp_path / "empty", 16, count=4)
    with pytest.raises(ConfigError, match="is not a folder"):
        images_of_folder(tmp_path / "gone", 16, count=4)
