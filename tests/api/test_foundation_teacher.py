"""A frozen preset teaches a small network that is served without KerasHub's layers."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras
import pytest

import selftrain
from selftrain.config import parse
from selftrain.learn.models.contract import SavedModel
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
    run = next((tmp_path / "workspace" / "models").glob("fit-*"))
    saved = [SavedModel.read(path.parent) for path in sorted(run.rglob("contract.json"))]
    learned = next(model for model in saved if model.contract.backbone == "wide_resnet_16_1")
    with zipfile.ZipFile(learned.folder / "model.keras") as archive:
        assert b"keras_hub" not in archive.read("config.json")
    assert learned.contract.lineage
