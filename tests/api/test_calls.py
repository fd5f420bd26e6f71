"""The Python API, end to end: a small Keras model, 8x8 digits, every kind of input, and what trains on the result."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import selftrain
from selftrain.config import Experiment
from selftrain.errors import ConfigError, PredictionError, SourceError
from tests.autolabeling.nearest_mean import NearestMean

if TYPE_CHECKING:
    import keras

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
LABELED = 300

pytestmark = [
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def test_the_package_offers_its_functions_and_imports_nothing_for_it() -> None:
    code = (
        "import sys, selftrain; print(selftrain.__all__, sorted(n for n in sys.modules if n.startswith('selftrain')))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip().endswith("['selftrain', 'selftrain.version']")
    for name in selftrain.__all__:
        assert getattr(selftrain, name) is not None
        assert name in dir(selftrain)
        assert name == "__version__" or selftrain.__dict__.get(name) is None or callable(getattr(selftrain, name))
    with pytest.raises(AttributeError, match="has no attribute 'autolable'"):
        _ = selftrain.autolable


@pytest.mark.parametrize("name", ["autolabel", "load_from", "as_numpy", "as_torch", "as_grain", "held_out"])
def test_every_function_has_a_docstring(name: str) -> None:
    assert len(getattr(selftrain, name).__doc__) > 60


@pytest.fixture(scope="module")
def digits() -> tuple[Pixels, Ints]:
    """1,797 scans uint8 (n, 8, 8, 1) and their labels, shuffled."""
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return images[order], bunch.target[order].astype(np.int64)


@pytest.fixture(scope="module")
def model(digits: tuple[Pixels, Ints]) -> keras.Model:
    """A small network that reads 0-255, trained on what is not held out; it answers logits."""
    import keras

    images, labels = digits[0][:LABELED], digits[1][:LABELED]
    seen = ~selftrain.held_out(images)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    made = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10),
        ]
    )
    made.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    made.fit(images[seen], labels[seen], epochs=25, batch_size=32, verbose=0)
    return made


@pytest.mark.keras
def test_a_keras_model_and_tf_data_in_and_out(model: keras.Model, digits: tuple[Pixels, Ints], tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    images, labels = digits
    labeled = tf.data.Dataset.from_tensor_slices((images[:LABELED], labels[:LABELED])).batch(32)
    unlabeled = tf.data.Dataset.from_tensor_slices(images[LABELED:])
    found = selftrain.analyze_data_then_save_to(model, labeled, unlabeled, tmp_path / "out")
    assert found.counts.unlabeled == len(images) - LABELED
    assert 0.1 < found.counts.accepted / found.counts.unlabeled < 1
    data = selftrain.load_from(tmp_path / "out", unlabeled_weight=0.5)
    assert len(data) == found.counts.training + found.counts.accepted
    assert [part.dtype for part in data.element_spec] == [tf.uint8, tf.int64, tf.float32]
    assert [tuple(part.shape) for part in data.element_spec] == [(8, 8, 1), (), ()]
    student = keras.models.clone_model(model)
    student.compile(
        keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    student.fit(data.shuffle(500).batch(32).repeat(), steps_per_epoch=40, epochs=4, shuffle=False, verbose=0)
    held = selftrain.load_from(tmp_path / "out", part="held_out")
    assert len(held.element_spec) == 2
    assert student.evaluate(held.batch(64), verbose=0, return_dict=True)["accuracy"] > 0.8


@pytest.mark.keras
def test_a_data_set_has_every_example_once_and_another_order_each_time(
    model: keras.Model, digits: tuple[Pixels, Ints], tmp_path: Path
) -> None:
    images, labels = digits
    selftrain.autolabel(
        model=model, labeled=(images[:LABELED], labels[:LABELED]), unlabeled=images[LABELED:], out=tmp_path / "out"
    )
    x, y = selftrain.as_numpy(tmp_path / "out")
    wanted = sorted((image.tobytes(), int(label)) for image, label in zip(x, y, strict=True))
    data = selftrain.load_from(tmp_path / "out")
    orders = []
    for _ in range(2):
        pairs = [(image.tobytes(), int(label)) for image, label in data.as_numpy_iterator()]
        assert sorted(pairs) == wanted
        orders.append(pairs)
    assert orders[0] != orders[1]
    again = [
        (image.tobytes(), int(label)) for image, label in selftrain.load_from(tmp_path / "out").as_numpy_iterator()
    ]
    assert again == orders[0]
    plain = selftrain.load_from(tmp_path / "out", seed=None).as_numpy_iterator()
    np.testing.assert_array_equal(np.stack([image for image, _ in plain]), x)


@pytest.fixture
def folders(digits: tuple[Pixels, Ints], tmp_path: Path) -> tuple[Path, Path]:
    """200 digits in class folders and 300 without labels, as files of 16 pixels."""
    images, labels = digits

    def write(path: Path, image: Pixels) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).resize((16, 16), Image.Resampling.NEAREST).save(path)

    for row in range(500):
        role = Path("labeled", f"n{labels[row]}") if row < 200 else Path("unlabeled", str(row % 3))
        write(tmp_path / role / f"{row}.png", images[row])
    (tmp_path / "unlabeled" / "0" / "broken.png").write_bytes(b"no image")
    return tmp_path / "labeled", tmp_path / "unlabeled"


@pytest.mark.keras
def test_folders_are_read_at_the_models_size_and_stay_where_they_are(
    model: keras.Model, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    labeled, unlabeled = folders
    found = selftrain.autolabel(model=model, labeled=labeled, unlabeled=str(unlabeled), out=tmp_path / "out")
    assert found.files
    assert found.class_names == tuple(f"n{digit}" for digit in range(10))
    assert found.image_shape == (8, 8, 1)
    assert found.counts.unreadable == 1
    assert found.counts.unlabeled == 300
    assert found.calibration.accuracy > 0.7
    assert "broken.png,not_an_image" in (tmp_path / "out" / "unreadable.csv").read_text()
    assert not (tmp_path / "out" / "images").exists()
    x, y = selftrain.as_numpy(tmp_path / "out")
    assert x.dtype == np.uint8
    first = sorted((labeled / "n0").iterdir())
    apart = selftrain.held_out(first)
    assert found.classes["n0"].labeled == int((~apart).sum())
    assert set(y.tolist()) == set(range(10))
    (labeled / "n0" / next(path.name for path, out in zip(first, apart, strict=True) if not out)).unlink()
    with pytest.raises(SourceError, match="1 files are gone or changed since the analysis"):
        selftrain.as_numpy(tmp_path / "out")


@pytest.mark.keras
def test_the_folder_of_a_saved_model_brings_its_size_and_its_classes(
    colour_model: Path, paint: Callable[..., Path], tmp_path: Path
) -> None:
    for seed in range(30):
        for colour in ("red", "green", "blue"):
            paint(tmp_path / "labeled" / colour / f"{seed}.png", colour, seed=seed)
            paint(tmp_path / "unlabeled" / f"{colour}{seed}.png", colour, seed=100 + seed)
    found = selftrain.autolabel(
        model=colour_model, labeled=tmp_path / "labeled", unlabeled=tmp_path / "unlabeled", out=tmp_path / "out"
    )
    assert found.class_names == ("blue", "green", "red")
    assert (found.calibration.accuracy, found.counts.accepted) == (1.0, 90)
    data = selftrain.as_torch(tmp_path / "out")
    x, y = data[0]
    assert (x.shape, x.dtype, int(y)) == ((3, 16, 16), np.uint8, 0)
    seen: list[Any] = []
    selftrain.as_torch(tmp_path / "out", transform=seen.append)[3]
    assert seen[0].shape == (16, 16, 3)


@pytest.mark.keras
def test_grain_reads_the_same_examples(model: keras.Model, digits: tuple[Pixels, Ints], tmp_path: Path) -> None:
    images, labels = digits
    selftrain.autolabel(
        model=model, labeled=(images[:LABELED], labels[:LABELED]), unlabeled=images[LABELED:], out=tmp_path / "out"
    )
    x, y, w = selftrain.as_numpy(tmp_path / "out", 0.5)
    data = selftrain.as_grain(tmp_path / "out", 0.5)
    assert len(data) == len(x)
    first, second, third = data.batch(16)[1]
    np.testing.assert_array_equal(first, x[16:32])
    np.testing.assert_array_equal(second, y[16:32])
    np.testing.assert_array_equal(third, w[16:32])
    shuffled = [int(label) for _, label, _ in data.seed(1).shuffle()]
    assert sorted(shuffled) == sorted(y.tolist())
    assert shuffled != y.tolist()


@pytest.mark.keras
def test_torchs_loaders_are_understood_by_their_shape_and_their_protocol(
    model: keras.Model, digits: tuple[Pixels, Ints], tmp_path: Path
) -> None:
    """What torch's DataLoader asks of a data set; the same with torch itself is below."""
    images, labels = digits
    selftrain.autolabel(
        model=model, labeled=(images[:LABELED], labels[:LABELED]), unlabeled=images[LABELED:], out=tmp_path / "out"
    )
    data = selftrain.as_torch(tmp_path / "out", unlabeled_weight=2)
    x, y, w = selftrain.as_numpy(tmp_path / "out", 2)
    for row in (0, len(data) - 1, -1):
        for ours, theirs in zip(data[row], (x[row], y[row], w[row]), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(IndexError):
        data[len(data)]
    assert data[0][0].flags.writeable


def test_torch_itself_in_and_out(digits: tuple[Pixels, Ints], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: its loaders are not tried for real")
    from torch.utils.data import DataLoader, TensorDataset

    images, labels = digits
    first = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
    marks = torch.tensor(labels)
    seen = torch.tensor(~selftrain.held_out(first[:LABELED]))
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(first[:LABELED][seen]), marks[:LABELED][seen]).backward()
        optimizer.step()
    net.train()
    found = selftrain.autolabel(
        model=net,
        labeled=DataLoader(TensorDataset(first[:LABELED], marks[:LABELED]), batch_size=32),
        unlabeled=DataLoader(TensorDataset(first[LABELED:]), batch_size=100),
        out=tmp_path / "out",
    )
    assert net.training
    assert found.image_shape == (1, 8, 8)
    assert found.calibration.accuracy > 0.8
    assert 0.1 < found.counts.accepted / found.counts.unlabeled < 1
    loader = DataLoader(selftrain.as_torch(tmp_path / "out", 0.5), batch_size=64, shuffle=True)
    count = 0
    for x, y, w in loader:
        assert (x.dtype, y.dtype, w.dtype) == (torch.float32, torch.int64, torch.float32)
        assert x.shape[1:] == (1, 8, 8)
        loss = (torch.nn.functional.cross_entropy(net(x), y, reduction="none") * w).mean()
        assert torch.isfinite(loss)
        count += len(x)
    assert count == found.counts.training + found.counts.accepted
    single = selftrain.autolabel(
        model=net,
        labeled=TensorDataset(first[:LABELED], marks[:LABELED]),
        unlabeled=list(first[LABELED:500]),
        out=tmp_path / "single",
    )
    assert single.calibration == found.calibration


@pytest.mark.keras
def test_a_keras_model_of_another_shape_is_refused_in_words(
    model: keras.Model, digits: tuple[Pixels, Ints], tmp_path: Path
) -> None:
    images, labels = digits
    wide = np.repeat(images, 2, axis=2)
    with pytest.raises(PredictionError, match=r"reads images of shape \(8, 8, 1\), these have \(8, 16, 1\)"):
        selftrain.autolabel(model=model, labeled=(wide[:100], labels[:100]), unlabeled=wide[100:], out=tmp_path / "out")


def test_what_is_no_analysis_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no analysis; selftrain\.autolabel"):
        selftrain.as_numpy(tmp_path / "nothing")
    with pytest.raises(SourceError, match="unlabeled_weight is -1"):
        selftrain.as_numpy(tmp_path, -1)


def test_a_path_from_home_is_meant_as_in_a_shell(
    digits: tuple[Pixels, Ints], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = digits
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")

    selftrain.autolabel(
        model=NearestMean(images, labels),
        labeled=(images[:60], labels[:60]),
        unlabeled=images[60:90],
        out="~/labels",
        outputs="logits",
    )
    assert (tmp_path / "home" / "labels" / "analysis.json").is_file()
    assert len(selftrain.as_numpy("~/labels")[0]) == len(selftrain.as_numpy(tmp_path / "home" / "labels")[0])
    with pytest.raises(ConfigError, match="home/labels' is not empty"):
        selftrain.fit(out="~/labels")
    with pytest.raises(ConfigError, match="workspace' lies in out="):
        selftrain.fit(out=tmp_path / "home" / "new", workspace="~/new/workspace")
    with pytest.raises(ConfigError, match="workspace' lies in out="):
        selftrain.fit(experiment=Experiment(workspace="~/new/workspace"), out="~/new")
    assert not list((tmp_path / "here").iterdir())
