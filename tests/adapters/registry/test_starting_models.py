"""What a run starts from is checked before it reads or trains anything."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selftrain.adapters.registry.starting_models import starting_teacher, teacher_backbone
from selftrain.config import Experiment, Registry, Teacher, parse
from selftrain.errors import ConfigError, RegistryError, SelftrainError
from selftrain.files.workspace import Workspace
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.start import check_start


def experiment(tmp_path: Path, **changes: Any) -> Experiment:
    return parse({"workspace": str(tmp_path / "workspace"), **changes})


def check(e: Experiment) -> None:
    check_start(e, teacher_backbone(e, Workspace(Path(e.workspace))))


def refused(e: Experiment) -> str:
    with pytest.raises(SelftrainError) as caught:
        check(e)
    return caught.value.message


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A user's own model, called "mine"."""
    import keras

    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(10)(pooled), name="mine")
    model.save(tmp_path / "mine.keras")
    return tmp_path / "mine.keras"


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_a_teacher_off_the_ladder_needs_the_students_backbone(tmp_path: Path, mine: Path) -> None:
    teacher = {"start": str(mine)}
    said = refused(experiment(tmp_path, teacher=teacher))
    assert "'mine'" in said
    assert "set student.backbone" in said
    named = experiment(tmp_path, teacher=teacher, student={"backbone": "efficientnet_b0_050"})
    check(named)
    warm = refused(experiment(tmp_path, teacher=teacher, student={"start": "teacher"}))
    assert "A student only continues from a teacher with the same network" in warm
    none = experiment(tmp_path, teacher=teacher, gate={"min_rounds": 0, "max_rounds": 0})
    check(none)


def test_a_teacher_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "'gone.keras', which does not exist" in refused(experiment(tmp_path, teacher={"start": "gone.keras"}))
    (tmp_path / "text.keras").write_text("no archive")
    assert "is not a .keras archive" in refused(experiment(tmp_path, teacher={"start": str(tmp_path / "text.keras")}))


OLD = Path(__file__).parents[2] / "learn" / "adoption" / "keras2"


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_an_old_model_starts_a_run_once_and_is_found_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")

    def started(**settings: Any) -> SavedModel:
        teacher = Teacher(start=str(OLD / "tiny.h5"), pixels="0..255", **settings)
        return starting_teacher(
            teacher,
            workspace=workspace,
            settings=Registry(),
            class_names=("a", "b", "c"),
            image_size=16,
        )

    first = started()
    written = (first.folder / "model.keras").stat().st_mtime_ns
    assert started() == first
    assert (first.folder / "model.keras").stat().st_mtime_ns == written
    assert started(image_size="16x16").contract.brought == first.contract.brought
    with pytest.raises(SelftrainError, match="the image size 8x8 that was given does not fit"):
        started(image_size="8x8")


def test_a_format_that_only_labels_is_refused_as_a_teacher_before_anything_is_read(tmp_path: Path) -> None:
    said = refused(experiment(tmp_path, teacher={"start": str(OLD / "exported")}))
    assert "is a SavedModel folder, which can label" in said
    assert "as the teacher of a run, give a .keras file" in said
    code = refused(experiment(tmp_path, teacher={"start": str(OLD / "gone.h5")}))
    assert "does not exist" in code


@pytest.mark.parametrize("key", ["pixels", "image_size"])
def test_what_only_a_model_of_ones_own_reads_is_refused_elsewhere(tmp_path: Path, key: str) -> None:
    with pytest.raises(SelftrainError, match=f"teacher.{key} is .* would do nothing"):
        experiment(tmp_path, teacher={key: "0..1"})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_champion_that_there_is_not_is_missed_at_once(tmp_path: Path) -> None:
    e = experiment(tmp_path, teacher={"start": "champion"})
    with pytest.raises(RegistryError, match="'digits' has none"):
        check(e)


def test_weights_that_are_not_there_name_the_role(tmp_path: Path) -> None:
    assert "student.weights is 'gone.h5'" in refused(experiment(tmp_path, student={"weights": "gone.h5"}))
    assert "teacher.weights is 'gone.h5'" in refused(experiment(tmp_path, teacher={"weights": "gone.h5"}))
    np.savez(tmp_path / "there.npz", np.ones(1))
    there = experiment(tmp_path, student={"weights": str(tmp_path / "there.npz")})
    check(there)


def test_a_student_from_published_weights_needs_a_rung_that_has_them(tmp_path: Path) -> None:
    said = refused(experiment(tmp_path, student={"weights": "imagenet"}))
    assert "'efficientnet_b0_070', the rung above 'efficientnet_b0_050', has no published weights" in said
    larger = experiment(tmp_path, teacher={"backbone": "efficientnet_b0"}, student={"weights": "imagenet"})
    check(larger)


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_the_bits_of_the_data_are_those_of_the_adopted_teacher_and_others_are_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path).ensure()

    def started(start: Path, bits: int | None) -> SavedModel:
        return starting_teacher(
            Teacher(start=str(start), pixels="0..255" if start.suffix else None),
            workspace=workspace,
            settings=Registry(),
            class_names=("a", "b", "c"),
            image_size=16,
            bits=bits,
        )

    plain, deep = (started(OLD / "tiny.h5", bits) for bits in (None, 12))
    assert (plain.contract.bits, deep.contract.bits) == (None, 12)
    assert plain.folder != deep.folder
    with pytest.raises(ConfigError, match=r"grey pictures of 12 bits, this run reads them as 14"):
        started(deep.folder, 14)
