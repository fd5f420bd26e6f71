"""The burn-in of a detector: repeated while labels teach, and the best of its trainings is kept."""

from __future__ import annotations

import pytest

from selftrain.learn.detection.network import DetectorShape
from selftrain.learn.detection.training import DetectorRecipe
from selftrain.selflabel.detection.choosing import BurnIn
from selftrain.selflabel.detection.improving import DetectionPlan, LabelledScenes, burnt_in, judged
from tests.learn.detection.drawn import NAMES, drawn_scenes

pytestmark = [
    pytest.mark.keras,
    pytest.mark.slow,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def test_a_second_training_that_gains_too_little_is_the_last_and_the_better_one_is_kept() -> None:
    shape = DetectorShape("mobilenet_v2_035", len(NAMES), strides=(8, 16))
    recipe = DetectorRecipe(steps=60, size=64, learning_rate=5e-3, share_strong=0.0, most=10)
    scenes = LabelledScenes(drawn_scenes(30, seed=0), drawn_scenes(12, seed=1))
    plan = DetectionPlan(teacher=recipe, needed=BurnIn(0.01, 0.0, gain=0.9), more_burn_ins=4)
    ended: list[str] = []

    def heard(done: int, total: int, note: str = "") -> None:
        ended.extend([note.split(":")[0]] if done == total else [])

    model, ready, best = burnt_in(shape, scenes, plan, 0, heard)
    assert ended == ["teacher", "teacher, again (2)"]
    assert best in (1, 2)
    assert ready.thresholds is not None
    assert judged(model, shape, scenes.validation).average_precision() > 0.0
