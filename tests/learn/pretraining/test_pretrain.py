"""Pretraining on real 8x8 digits: features improve, a kill changes nothing, trouble is named."""

import os
import signal
import subprocess
import sys
import textwrap
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from selftrain.config import Pretraining
from selftrain.data.store.pixels import ArrayPixels
from selftrain.errors import ConfigError, TrainingDivergedError

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
]


SHORT = {"rows": 200, "steps": 12, "look_every": 6}
KILLED = textwrap.dedent("""
    import os, signal, sys
    sys.path.insert(0, sys.argv[2])
    from pathlib import Path
    import test_pretrain as t
    def progress(done, total, note=""):
        if done == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
    t.run(Path(sys.argv[1]), **t.SHORT, checkpoint_s=1e-9, progress=progress)
""")


@lru_cache
def digits() -> tuple[ArrayPixels, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return ArrayPixels(np.repeat(grey[..., None], 3, axis=-1)), bunch.target.astype(np.int64)


def small_model(seed: int = 0):
    """As `backbones.build` makes them: a layer "backbone", a layer "pool", logits."""
    import keras

    keras.utils.set_random_seed(seed)
    inner = keras.Input((8, 8, 3))
    x = inner
    for filters, stride in ((16, 1), (32, 2), (32, 1)):
        x = keras.layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
        x = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))
    backbone = keras.Model(inner, x, name="backbone")
    image = keras.Input((8, 8, 3), name="image")
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(backbone(keras.layers.Rescaling(1 / 127.5, -1)(image)))
    return keras.Model(image, keras.layers.Dense(10, name="logits")(pooled), name="small")


def run(folder: Path, *, model=None, rows: int = 1400, progress=None, checkpoint_s: float = 30.0, **settings):
    from selftrain.learn.pretraining.pretrain import LabeledRows, pretrain
    from selftrain.learn.training.checkpoint import Checkpoints

    pixels, labels = digits()
    judged = np.arange(1400, 1797)
    defaults = {
        "steps": 60,
        "batch_size": 64,
        "learning_rate": 3e-3,
        "projector": 128,
        "off_diagonal": 0.05,
        "objective": "barlow_twins",
        "augmentation": "digits",
        "look_every": 30,
    }
    return pretrain(
        model or small_model(),
        recipe=Pretraining(**{**defaults, **settings}),
        pixels=pixels,
        rows=np.arange(rows),
        labeled=LabeledRows(pixels, judged, labels[judged]),
        seed=0,
        checkpoints=Checkpoints(folder, checkpoint_s),
        progress=progress or (lambda done, total, note="": None),
    )


@pytest.mark.parametrize(
    ("objective", "precision", "floor"),
    [("barlow_twins", "float32", 0.05), ("simclr", "float32", 0.02), ("simclr", "mixed_bfloat16", 0.02)],
)
def test_neighbours_found_by_learned_features_beat_those_of_random_ones(
    tmp_path: Path, objective: str, precision: str, floor: float
) -> None:
    done = run(tmp_path, objective=objective, precision=precision, steps=80, look_every=40)
    first, last = done.looks
    assert last.knn_accuracy > done.knn_before + floor
    assert (first.step, last.step) == (40, 80)
    assert last.loss < first.loss
    assert all(0.1 < look.spread < 1.1 for look in done.looks)


@pytest.mark.slow
def test_a_killed_pretraining_goes_on_to_the_same_looks_and_weights(tmp_path: Path) -> None:
    from selftrain.learn.networks.variables import read

    whole = run(tmp_path / "whole", **SHORT)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent), "8"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    seen: list[int] = []
    resumed = run(tmp_path, **SHORT, progress=lambda done, total, note="": seen.append(done))
    assert seen == [9, 10, 11, 12]
    start, end, again = (
        np.concatenate([weight.ravel() for weight in read(model.trainable_weights)])
        for model in (small_model(), whole.model, resumed.model)
    )
    # Adam makes whole steps of the threads' rounding where a gradient is zero; a lost state would be far more.
    assert np.linalg.norm(end - again) < 0.02 * np.linalg.norm(end - start)
    for one, other in zip(whole.looks, resumed.looks, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3)
        assert one.knn_accuracy == pytest.approx(other.knn_accuracy, abs=0.01)
    assert resumed.knn_before == whole.knn_before


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_finished_pretraining_is_read_back_and_another_one_starts_anew(tmp_path: Path, precision: str) -> None:
    from selftrain.learn.networks.variables import read

    settings = {"rows": 100, "steps": 2, "precision": precision}
    first = run(tmp_path, **settings)
    seen: list[int] = []
    again = run(tmp_path, **settings, progress=lambda done, total, note="": seen.append(done))
    assert seen == []
    assert again.looks == first.looks
    for one, other in zip(read(first.model.weights), read(again.model.weights), strict=True):
        np.testing.assert_array_equal(one, other)
    run(tmp_path, **{**settings, "rows": 99}, progress=lambda done, total, note="": seen.append(done))
    assert seen == [1, 2]


def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path) -> None:
    with pytest.raises(TrainingDivergedError, match=r"at step [1-9] of 60; lower learning_rate"):
        run(tmp_path, rows=100, learning_rate=1e30, warmup=0.0)


def test_embeddings_that_are_all_one_are_a_collapse(tmp_path: Path) -> None:
    import keras

    from selftrain.learn.networks.batchnorm import layers_of_type

    model = small_model()
    last = layers_of_type(model.get_layer("backbone"), keras.layers.BatchNormalization)[-1]
    last.gamma.assign(np.zeros(32))
    last.beta.assign(np.ones(32))
    with pytest.raises(TrainingDivergedError, match="all images are the same at step 2"):
        run(tmp_path, model=model, rows=100, steps=2, learning_rate=1e-12)


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="63 images for batches of 64"):
        run(tmp_path, rows=63)
