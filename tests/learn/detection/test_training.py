"""A detector learns drawn shapes from scratch, teaches itself, and is the same once saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pytest

from selftrain.errors import ConfigError, UntrustedFileError
from selftrain.learn.detection.detect import Choice, Detector
from selftrain.learn.detection.matching import matched
from selftrain.learn.detection.network import DetectorShape, build_detector
from selftrain.learn.detection.saving import MODEL_FILE, DetectorContract, SavedDetector, save_detector
from selftrain.learn.detection.scenes import views_of
from selftrain.learn.detection.training import DetectorRecipe, DetectorRun, train_detector
from selftrain.learn.detection.unbiased_teacher import UnbiasedTeacher, Watch, learn_from_unlabelled
from selftrain.learn.networks import variables
from selftrain.learn.shapes.objects import packed
from tests.learn.detection.drawn import NAMES, drawn_scenes, without_labels

pytestmark = [
    pytest.mark.keras,
    pytest.mark.slow,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SHAPE = DetectorShape("mobilenet_v2_035", len(NAMES), strides=(4, 8, 16))
RECIPE = DetectorRecipe(steps=300, size=64, learning_rate=5e-3, share_strong=0.0, most=10)


@dataclass
class Taught:
    """A detector after its burn-in, and its weights then."""

    model: keras.Model
    weights: list[np.ndarray]

    def again(self) -> keras.Model:
        variables.write(self.model.weights, self.weights)
        return self.model


@pytest.fixture(scope="module")
def taught() -> Taught:
    model = build_detector(SHAPE, seed=0)
    train_detector(model, SHAPE, RECIPE, drawn_scenes(60, seed=0), seed=0)
    return Taught(model, variables.read(model.weights))


def average_precision(model: keras.Model) -> float:
    scenes = drawn_scenes(40, seed=1)
    found = Detector(model, SHAPE.strides, Choice(score=0.05, most=50))(scenes.images)
    return matched(found, scenes.objects, classes=len(NAMES)).average_precision()


def test_300_steps_on_60_drawn_scenes_find_most_objects(taught: Taught) -> None:
    assert average_precision(taught.again()) >= 0.6


def test_with_a_teacher_that_is_always_right_the_pool_helps(taught: Taught, monkeypatch: pytest.MonkeyPatch) -> None:
    """The true objects in place of pseudo-labels: what the method could reach, beside the same steps on few labels."""
    few, pool = drawn_scenes(6, seed=2), drawn_scenes(60, seed=3)
    recipe = replace(RECIPE, steps=60)
    control = train_detector(taught.again(), SHAPE, recipe, few, seed=5, steady=True)
    alone = average_precision(control)
    monkeypatch.setattr(
        "selftrain.learn.detection.unbiased_teacher.both_halves",
        lambda human, other, pseudo, recipe, masks: (
            np.concatenate([human.strong, other.weak]),
            np.concatenate(
                [
                    packed(human.objects, most=recipe.most, masks=masks),
                    packed(other.objects, most=recipe.most, group=1, masks=masks),
                ]
            ),
        ),
    )
    helped = learn_from_unlabelled(taught.again(), SHAPE, recipe, UnbiasedTeacher((0.4, 0.4)), few, pool, seed=5)
    assert average_precision(helped) >= alone


def test_the_teacher_finds_about_as_many_objects_as_there_are_and_the_student_does_not_collapse(taught: Taught) -> None:
    watch, before = Watch(), average_precision(taught.again())
    pool = without_labels(drawn_scenes(60, seed=3))
    method = UnbiasedTeacher((0.4, 0.4))
    recipe = replace(RECIPE, steps=60, learning_rate=1e-3)
    model = learn_from_unlabelled(
        taught.again(), SHAPE, recipe, method, drawn_scenes(20, seed=0), pool, seed=5, watch=watch
    )
    assert 0.3 < watch.kept_lately() < 6
    assert average_precision(model) > before - 0.1


def test_without_an_average_teacher_and_student_are_the_same_network(taught: Taught) -> None:
    """Batch norm keeps its statistics in training too, so weights alone tell the two apart."""
    model = taught.again()
    run = DetectorRun(model, SHAPE, replace(RECIPE, ema=0.0, steps=4), steady=True)
    views = views_of(drawn_scenes(8, seed=0), (1,), count=8, size=64, moves=RECIPE.moves)
    other = build_detector(SHAPE, seed=9)
    statistics = [w for w in model.weights if "moving" in w.path]
    before = variables.read(statistics)
    for _ in range(3):
        run.learn(views.strong, packed(views.objects, most=10))
    assert all(np.array_equal(a, b) for a, b in zip(before, variables.read(statistics), strict=True))
    variables.write(other.weights, variables.read(model.weights))
    variables.write(model.trainable_variables, run.averaged())
    answers = [each.predict(views.weak, verbose=0) for each in (model, other)]
    np.testing.assert_allclose(*answers, atol=1e-4)


def test_a_saved_detector_finds_the_same_and_refuses_a_changed_file(taught: Taught, tmp_path: Path) -> None:
    contract = DetectorContract(backbone=SHAPE.backbone, class_names=NAMES, strides=SHAPE.strides)
    save_detector(taught.again(), contract, tmp_path / "model")
    images = [np.concatenate([image] * 2) for image in drawn_scenes(3, seed=4).images]  # another size than in training
    there = Detector(taught.model, SHAPE.strides)(images)
    back = SavedDetector.read(tmp_path / "model").open()(images)
    for one, other in zip(there, back, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
        assert one.classes.tolist() == other.classes.tolist()
    with pytest.raises(ConfigError, match="not an empty folder"):
        save_detector(taught.model, contract, tmp_path / "model")
    file = tmp_path / "model" / MODEL_FILE
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(UntrustedFileError, match="was changed"):
        SavedDetector.read(tmp_path / "model").open()
