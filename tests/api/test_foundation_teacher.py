"""A frozen preset of KerasHub teaches a small network, from its loading to the labels of the pool."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

import selftrain
from selftrain.config import parse
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from tests.learn.foundation import tiny_presets

pytestmark = [
    pytest.mark.keras,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


def test_a_frozen_preset_labels_the_pool_for_a_small_student(tmp_path: Path) -> None:
    keras.utils.set_random_seed(4)
    preset = tiny_presets.dinov2(tmp_path / "dinov2")
    e = parse(
        {
            "name": "foundation",
            "workspace": str(tmp_path / "workspace"),
            "teacher": {"backbone": f"keras_hub:{preset}", "head": "fitted", "steps": 0},
            "student": {"backbone": "wide_resnet_16_1", "steps": 4, "validate_every": 4, "finish_steps": 0},
            "pseudo_label": {"labeler": "propagate", "threshold": {"kind": "fixed", "value": 0.3}},
            "gate": {"min_rounds": 1, "max_rounds": 1},
        }
    )
    done = selftrain.fit(experiment=e, out=tmp_path / "fitted")
    teacher, student = done.record.rounds
    assert teacher.backbone == f"keras_hub:{preset}"
    assert teacher.validation_accuracy > 0.25  # ten classes: the features of a random network still tell some apart
    assert student.backbone == "wide_resnet_16_1"
    assert student.accepted > 0
    labels = PseudoLabels.read(tmp_path / "fitted" / "pseudo_labels.parquet")
    assert len(labels) == student.pool
    assert labels.accepted.num_rows == student.accepted
