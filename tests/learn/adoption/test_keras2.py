"""Old `.h5` files: rebuilt from their configuration as Keras 2 computed, or refused with the way out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from selftrain.errors import UntrustedFileError
from selftrain.learn.adoption.adopt import Known, adopt
from selftrain.learn.adoption.formats import name_of, open_brought, side_of
from selftrain.learn.adoption.keras2 import load_h5
from selftrain.learn.adoption.keras2_layers import OldModelError, built
from selftrain.learn.models.saving import save

pytestmark = [
    pytest.mark.keras,
    # Keras's own save copies TensorFlow variables in a way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
SAMPLES = Path(__file__).with_name("keras2")
TINY, CODE = SAMPLES / "tiny.h5", SAMPLES / "code.h5"


def images() -> NDArray[np.float32]:
    """The images (4, 16, 16, 3) that TensorFlow 2.15.1 answered."""
    return np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.float32)


def answered() -> NDArray[np.float32]:
    answers: NDArray[np.float32] = np.load(SAMPLES / "tiny.npy")
    return answers


def changed(tmp_path: Path, change: Callable[[Any], None], sample: Path = TINY) -> Path:
    """A copy of a sample whose configuration is changed."""
    path = tmp_path / "changed.h5"
    shutil.copy(sample, path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config["config"])
        file.attrs["model_config"] = json.dumps(config)
    return path


def written(path: Path, layers: list[tuple[str, dict[str, Any], dict[str, NDArray[np.float32]]]], version: str) -> Path:
    """A Sequential model in the format of Keras 2: class, configuration and weights of each layer."""
    described = [{"class_name": kind, "config": {"name": f"layer_{row}", **config}} for row, (kind, config, _) in
                 enumerate(layers)]  # fmt: skip
    described[0]["config"]["batch_input_shape"] = [None, 16, 16, 3]
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["model_config"] = json.dumps(
            {"class_name": "Sequential", "config": {"name": "mine", "layers": described}}
        )
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [f"layer_{row}".encode() for row in range(len(layers))]
        for row, (_, _, weights) in enumerate(layers):
            inner = group.create_group(f"layer_{row}")
            inner.attrs["weight_names"] = [f"layer_{row}/{name}:0".encode() for name in weights]
            for name, weight in weights.items():
                inner[f"layer_{row}/{name}:0"] = weight
    return path


def test_a_model_of_tensorflow_2_15_answers_as_it_did_there() -> None:
    model = load_h5(TINY)
    np.testing.assert_allclose(model.predict(images(), verbose=0), answered(), atol=1e-5)
    assert (name_of(TINY), side_of(TINY)) == ("tiny", 16)


def test_an_old_model_is_adopted_and_saved_as_one_of_ours(tmp_path: Path) -> None:
    from selftrain.learn.models.loading import load

    model, contract = adopt(TINY, class_names=("a", "b", "c"), image_size=16, known=Known(pixels="0..255"))
    saved = save(model, contract, tmp_path / "ours")
    again, _ = load(saved.folder)
    logits = again.predict(images(), verbose=0)
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), answered(), atol=1e-4)


def test_code_in_an_old_file_is_refused_with_the_lines_that_convert_it() -> None:
    with pytest.raises(UntrustedFileError) as caught:
        open_brought(CODE)
    said = caught.value.message
    assert "Lambda layer, which holds code" in said
    assert "model = tf.keras.models.load_model(" in said
    assert "model.export('exported')" in said


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda config: config["layers"][1].update(class_name="MyOwnLayer", config={}), "'MyOwnLayer'"),
        (lambda config: config["layers"][1]["config"].update(function="io.write_file"), "'io.write_file'"),
        (lambda config: config["layers"][-1]["config"].update(activation="my_code"), "activation 'my_code'"),
        (lambda config: config["layers"][-1]["config"].update(groups=3), "groups=3, which Keras 3 lacks"),
        (lambda config: config["layers"][-1]["config"].update(units=4), "does not fit"),
        (lambda config: config["layers"].pop(1), "reads is missing"),
        (lambda config: config.update(output_layers=[]), "damaged"),
    ],
)
def test_a_file_that_is_not_of_stock_layers_is_refused(tmp_path: Path, change: Callable[[Any], None], why: str) -> None:
    path = changed(tmp_path, change)
    with pytest.raises(OldModelError) as caught:
        load_h5(path)
    assert why in str(caught.value)


def test_weights_in_another_file_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "linked.h5"
    shutil.copy(TINY, path)
    with h5py.File(path, "r+") as file:
        group = file["model_weights/dense_1" if "dense_1" in file["model_weights"] else "model_weights/dense"]
        name = group.attrs["weight_names"][0]
        del group[name]
        group[name] = h5py.ExternalLink(str(TINY), "somewhere")
    with pytest.raises(OldModelError, match="is a link to another place"):
        load_h5(path)


def test_weights_alone_and_no_hdf5_say_what_they_are(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.create_group("dense")
    with pytest.raises(OldModelError, match="weights without the model's layers"):
        load_h5(tmp_path / "weights.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(OldModelError, match="damaged, or not a model of Keras 2"):
        load_h5(tmp_path / "text.h5")
    assert side_of(tmp_path / "text.h5") is None


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = TINY.read_bytes()
    for kept in range(0, len(whole) - 1, 4001):
        (tmp_path / "cut.h5").write_bytes(whole[:kept])
        with pytest.raises(OldModelError):
            load_h5(tmp_path / "cut.h5")


def test_weights_are_the_ones_of_their_layers(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    kernel, bias = rng.normal(0, 1, (3, 3, 3, 1)).astype(np.float32), np.float32([0.5, 1, 2])
    dense = rng.normal(0, 1, (3, 2)).astype(np.float32)
    layers: list[tuple[str, dict[str, Any], dict[str, NDArray[np.float32]]]] = [
        ("Rescaling", {"scale": 1 / 255, "offset": 0.0, "dtype": "float32"}, {}),
        ("RandomHeight", {"factor": 0.2}, {}),
        ("DepthwiseConv2D", {"kernel_size": [3, 3], "padding": "same", "groups": 1, "depth_multiplier": 1,
                             "data_format": "channels_last",
                             "depthwise_initializer": {"class_name": "GlorotUniform", "config": {}}},
         {"depthwise_kernel": kernel, "bias": bias}),
        ("LeakyReLU", {"alpha": 0.25}, {}),
        ("BatchNormalization", {"axis": [3], "momentum": 0.9, "epsilon": 0.5, "fused": None, "renorm": False},
         {"gamma": np.float32([1, 2, 3]), "beta": np.float32([0, 1, 0]), "moving_mean": np.float32([0.1, 0, 0]),
          "moving_variance": np.float32([1, 2, 1])}),
        ("GlobalAveragePooling2D", {"keepdims": False}, {}),
        ("Dense", {"units": 2, "activation": "linear"}, {"kernel": dense, "bias": np.float32([0, 1])}),
    ]  # fmt: skip
    got = load_h5(written(tmp_path / "old.h5", layers, "2.4.0")).predict(images(), verbose=0)

    padded = np.pad(images().astype(np.float64) / 255, ((0, 0), (1, 1), (1, 1), (0, 0)))
    mapped = sum(
        padded[:, row : row + 16, column : column + 16] * kernel[row, column, :, 0]
        for row in range(3)
        for column in range(3)
    )
    mapped = mapped + bias
    mapped = np.where(mapped > 0, mapped, 0.25 * mapped)
    mapped = (mapped - [0.1, 0, 0]) / np.sqrt(np.array([1, 2, 1]) + 0.5) * [1, 2, 3] + [0, 1, 0]
    np.testing.assert_allclose(got, mapped.mean(axis=(1, 2)) @ dense + [0, 1], atol=1e-4)


def test_a_file_of_keras_3_is_told_from_one_of_keras_2(tmp_path: Path) -> None:
    layers: list[Any] = [("GlobalAveragePooling2D", {}, {})]
    with pytest.raises(OldModelError, match=r"saved by Keras 3\.1\.0"):
        load_h5(written(tmp_path / "new.h5", layers, "3.1.0"))


def test_channels_first_is_refused() -> None:
    with pytest.raises(OldModelError, match="reads channels first"):
        built("Conv2D", {"filters": 2, "kernel_size": 3, "data_format": "channels_first", "name": "first"})
