"""A detector's training that is told to stop goes on with the same weights, and one that ended is not done again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from selftrain.errors import TrainingInterruptedError
from selftrain.learn.detection.keeping import Keeper
from selftrain.learn.detection.network import DetectorShape, build_detector
from selftrain.learn.detection.training import DetectorRecipe, train_detector
from selftrain.learn.detection.unbiased_teacher import UnbiasedTeacher, Watch, learn_from_unlabelled
from selftrain.learn.networks import variables
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.selflabel.detection.distilling import distil
from tests.learn.detection.drawn import NAMES, drawn_scenes, without_labels

pytestmark = [
    pytest.mark.keras,
    pytest.mark.slow,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SHAPE = DetectorShape("mobilenet_v2_035", len(NAMES), strides=(8, 16))
RECIPE = DetectorRecipe(steps=6, batch_size=2, size=64, most=10)
METHOD = UnbiasedTeacher(threshold=(0.005, 0.005), check_every=2)
LABELLED, POOL = drawn_scenes(4, seed=0), without_labels(drawn_scenes(4, seed=1))
Train = Callable[[keras.Model, Keeper], object]


def on_labels(model: keras.Model, keeper: Keeper) -> keras.Model:
    return train_detector(model, SHAPE, RECIPE, LABELLED, seed=3, keeper=keeper)


def on_the_pool(model: keras.Model, keeper: Keeper) -> list[float]:
    watch = Watch()
    learn_from_unlabelled(
        *(model, SHAPE, RECIPE, METHOD, LABELLED, POOL),
        seed=3,
        check=lambda teacher: (0.004, 0.006),
        watch=watch,
        keeper=keeper,
    )
    return watch.kept


def labelling_now_and_then(model: keras.Model, keeper: Keeper) -> list[float]:
    watch = Watch()
    distil(
        *(model, SHAPE, RECIPE, METHOD, LABELLED, POOL),
        seed=3,
        check=lambda teacher: (0.004, 0.006),
        watch=watch,
        keeper=keeper,
    )
    return watch.kept


@pytest.mark.parametrize("train", [on_labels, on_the_pool, labelling_now_and_then])
def test_stopped_after_three_steps_and_gone_on_is_as_if_never_stopped(tmp_path: Path, train: Train) -> None:
    steps = iter([False, False, True])
    checkpoints = Checkpoints(tmp_path, every_s=1e9)
    stopped = replace(checkpoints, told_to_stop=lambda: next(steps))
    with pytest.raises(TrainingInterruptedError, match="told to stop at step 3"):
        train(build_detector(SHAPE, seed=0), Keeper(stopped, "a"))

    model, unbroken = build_detector(SHAPE, seed=9), build_detector(SHAPE, seed=0)  # 9: what is saved counts
    said, once = train(model, Keeper(checkpoints, "a")), train(unbroken, Keeper(None))
    for one, other in zip(variables.read(model.weights), variables.read(unbroken.weights), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    if train is not on_labels:
        assert said == pytest.approx(once)

    again = build_detector(SHAPE, seed=5)
    answer = train(again, Keeper(checkpoints, "a"))
    if train is not on_labels:
        assert answer == said
    for one, other in zip(variables.read(again.weights), variables.read(model.weights), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_training_does_not_go_on_from_it(tmp_path: Path) -> None:
    steps = iter([True])
    stopped = Checkpoints(tmp_path, every_s=1e9, told_to_stop=lambda: next(steps))
    with pytest.raises(TrainingInterruptedError):
        on_labels(build_detector(SHAPE, seed=0), Keeper(stopped, "a"))
    assert Keeper(Checkpoints(tmp_path), "b").finished() is None
    other = build_detector(SHAPE, seed=0)
    on_labels(other, Keeper(Checkpoints(tmp_path / "other"), "b"))
    plain = build_detector(SHAPE, seed=0)
    on_labels(plain, Keeper(None))
    np.testing.assert_allclose(other.weights[0].numpy(), plain.weights[0].numpy(), atol=2e-6)
