"""A run that starts from a preset of KerasHub, or from class names, finds its model again and refuses what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selftrain.adapters.registry.starting_models import (
    described_start,
    described_weights,
    starting_teacher,
    teacher_backbone,
)
from selftrain.config import Experiment, Registry, Teacher, parse
from selftrain.errors import SelftrainError
from selftrain.files.workspace import Workspace
from selftrain.selflabel.rounds.start import check_start
from tests.learn.foundation import tiny_presets

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
FROZEN = {"head": "fitted", "steps": 0}
STUDENT = {"backbone": "efficientnet_b0_050"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_presets.clip(tmp_path_factory.mktemp("presets") / "clip"))


def experiment(tmp_path: Path, **changes: Any) -> Experiment:
    return parse({"workspace": str(tmp_path / "workspace"), **changes})


def refused(e: Experiment) -> str:
    with pytest.raises(SelftrainError) as caught:
        check_start(e, teacher_backbone(e, Workspace(Path(e.workspace))))
    return caught.value.message


def test_a_preset_that_is_not_there_is_named_before_anything_is_read(tmp_path: Path) -> None:
    frozen = {"backbone": f"keras_hub:{tmp_path / 'gone'}", **FROZEN}
    assert "neither a preset of KerasHub nor a folder" in refused(experiment(tmp_path, teacher=frozen, student=STUDENT))
    zero_shot = {"start": "zero_shot", "preset": "clip_vit_base_patch23"}
    said = refused(experiment(tmp_path, teacher=zero_shot, student=STUDENT))
    assert "did you mean 'clip_vit_base_patch32'" in said


def test_a_student_after_a_foundation_model_is_named(tmp_path: Path, clip: str) -> None:
    frozen = {"backbone": f"keras_hub:{clip}", **FROZEN}
    for teacher in (frozen, {"start": "zero_shot", "preset": clip}):
        assert "set student.backbone" in refused(experiment(tmp_path, teacher=teacher))
        e = experiment(tmp_path, teacher=teacher, student=STUDENT)
        check_start(e, teacher_backbone(e, Workspace(Path(e.workspace))))


def test_a_zero_shot_teacher_is_built_once_and_found_by_its_classes_and_prompts(tmp_path: Path, clip: str) -> None:
    workspace = Workspace(tmp_path / "workspace")

    def started(*names: str, **settings: Any) -> Path:
        teacher = Teacher(start="zero_shot", preset=clip, **settings)
        return starting_teacher(
            teacher, workspace=workspace, settings=Registry(), class_names=names, image_size=32
        ).folder

    first = started("cat", "dog")
    written = (first / "model.keras").stat().st_mtime_ns
    assert started("cat", "dog") == first
    assert (first / "model.keras").stat().st_mtime_ns == written
    assert len({first, started("dog", "cat"), started("cat", "dog", prompts=("a {}",))}) == 3
    with pytest.raises(SelftrainError, match="called names 'fox', which is not a class; allowed: cat, dog"):
        started("cat", "dog", called={"fox": "red fox"})


def test_what_a_run_starts_from_changes_with_the_presets_files(tmp_path: Path) -> None:
    folder = tiny_presets.vit(tmp_path / "vit")
    teacher = Teacher(backbone=f"keras_hub:{folder}", head="fitted", steps=0)
    zero_shot = Teacher(start="zero_shot", preset=str(folder))
    workspace = Workspace(tmp_path / "workspace")

    def described() -> tuple[str | None, str]:
        return described_weights(teacher), described_start(zero_shot, workspace=workspace, settings=Registry())

    before = described()
    assert described() == before
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert all(now != then for now, then in zip(described(), before, strict=True))
