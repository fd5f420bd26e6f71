"""The scaffold: from folders to a configuration that parses, says why, and replaces nothing."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from selftrain.config import (
    DigitsSource,
    Experiment,
    Fixed,
    FolderSource,
    Gate,
    KerasDatasetSource,
    PseudoLabel,
    Source,
    TableSource,
)
from selftrain.config.text.commented import Commented, render_commented, write_commented
from selftrain.config.text.file import read_experiment
from selftrain.data.sources.survey import Survey
from selftrain.errors import BackboneError, ConfigError, SourceError
from selftrain.scaffold.choices import Scaffold, choose, describe_choices, scaffold
from selftrain.scaffold.draft import Wishes

Paint = Callable[..., Path]
SOURCE = FolderSource(labeled="photos/labeled", unlabeled="photos/unlabeled")
DATA = Path(os.environ.get("SELFTRAIN_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def seen(**changes: object) -> Survey:
    facts: dict[str, Any] = {
        "labeled": SOURCE.labeled,
        "unlabeled": SOURCE.unlabeled,
        "classes": {"cat": 100, "dog": 110},
        "unlabeled_images": 2000,
        "validation_images": None,
        "test_images": None,
        "ignored_files": 0,
        "formats": {"JPEG": 256},
        "sampled": 256,
        "unreadable": 0,
        "shortest_side": 100,
        "median_side": 160,
        "longest_side": 400,
        "grey": False,
    }
    return Survey.model_validate(facts | changes)


def chosen(wishes: Wishes | None = None, **changes: object) -> Experiment:
    return choose(SOURCE, seen(**changes), wishes or Wishes()).experiment


@pytest.fixture
def folders(tmp_path: Path, paint: Paint) -> FolderSource:
    for k in range(8):
        paint(tmp_path / "pets" / "labeled" / "cat" / f"{k}.png", "red", seed=k)
        paint(tmp_path / "pets" / "labeled" / "dog" / f"{k}.png", "blue", seed=k)
    for k in range(40):
        paint(tmp_path / "pets" / "unlabeled" / f"{k}.png", "blue", seed=100 + k)
    return FolderSource(labeled=str(tmp_path / "pets" / "labeled"), unlabeled=str(tmp_path / "pets" / "unlabeled"))


def make(folders: FolderSource, out: Path | None, *, force: bool = False, wishes: Wishes | None = None) -> Scaffold:
    return scaffold(folders, wishes or Wishes(), out, command="selftrain init --labeled 'my pets'", force=force)


def test_the_yaml_says_exactly_what_was_chosen(folders: FolderSource, tmp_path: Path) -> None:
    made = make(folders, tmp_path / "new" / "pets.yaml")
    assert read_experiment(made.path) == made.experiment
    assert made.experiment.name == "pets"
    assert made.experiment.source == folders


def test_the_header_names_command_hardware_and_that_the_result_is_unknown(
    folders: FolderSource, tmp_path: Path
) -> None:
    header = make(folders, tmp_path / "pets.yaml").path.read_text().split("parameters:")[0]
    assert "selftrain init --labeled 'my pets'" in header
    assert f"selftrain run --config {tmp_path / 'pets.yaml'}" in header
    assert "Hardware" in header
    assert "Expected   unknown until run" in header


def test_a_file_that_is_there_is_replaced_by_force_only(folders: FolderSource, tmp_path: Path) -> None:
    out = tmp_path / "pets.yaml"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="exists and was left as it is"):
        make(folders, out)
    assert out.read_text() == "mine"
    make(folders, out, force=True)
    assert read_experiment(out).name == "pets"


def test_a_yaml_below_a_file_is_refused_before_and_after_the_folders_were_read(
    folders: FolderSource, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("a file")
    with pytest.raises(ConfigError, match=r"f is not a folder; choose another --out"):
        make(FolderSource(labeled="nowhere", unlabeled="nowhere"), tmp_path / "f" / "x.yaml")
    made = Commented(Experiment(name="x", source=folders), {})
    with pytest.raises(ConfigError, match=r"x\.yaml cannot be written \(.*\); give another --out"):
        write_commented(made, tmp_path / "f" / "x.yaml", command="selftrain init")


def test_without_a_name_for_it_the_yaml_goes_to_configs_if_there_is_one(
    folders: FolderSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert make(folders, None).path == Path("pets.yaml")
    (tmp_path / "configs").mkdir()
    assert make(folders, None).path == Path("configs/pets.yaml")
    with pytest.raises(ConfigError, match=r"configs/pets\.yaml exists"):
        make(folders, None)


def test_what_was_seen_is_said_in_a_few_lines(folders: FolderSource, tmp_path: Path) -> None:
    said = describe_choices(make(folders, tmp_path / "pets.yaml"))
    assert "2 classes, 16 labelled images: cat 8, dog 8" in said
    assert "40 unlabelled images" in said
    assert "PNG 56 of 56" in said
    assert len(said.splitlines()) < 12


@given(st.text(st.characters(exclude_characters="\0"), min_size=1), st.text(min_size=1))
def test_any_folder_and_any_command_give_a_yaml_that_means_them(folder: str, command: str) -> None:
    source = FolderSource(labeled=folder, unlabeled=folder)
    made = Commented(Experiment(name="x", source=source), {"name": "why", "gate.target": command})
    text = render_commented(made, Path(folder), command=command)
    values = yaml.safe_load(text.encode("utf-8", "surrogatepass"))
    assert Experiment.model_validate(values["parameters"]["experiment"]) == Experiment(
        name="x", source=source, gate=Gate(target=0.95)
    )


@pytest.mark.parametrize("word", ["no", "null", "1e3", "0x10", "12:30:00", "2024-01-01", "~", "*a", "#a", "a: b", "-"])
def test_words_that_yaml_would_read_as_something_else_stay_words(word: str) -> None:
    source = FolderSource(labeled=word, unlabeled=f"{word}/x")
    text = render_commented(
        Commented(Experiment(name="x", source=source), {"name": ""}), Path("x.yaml"), command="init"
    )
    assert yaml.safe_load(text)["parameters"]["experiment"]["source"]["labeled"] == word


@pytest.mark.parametrize(
    ("side", "wishes", "size"),
    [
        (8, Wishes(), 32),
        (40, Wishes(), 32),
        (500, Wishes(), 64),
        (500, Wishes(gpu=True), 160),
        (160, Wishes(teacher_weights="imagenet"), 160),
        (500, Wishes(teacher_weights="imagenet", gpu=True), 224),
        (50, Wishes(teacher_weights="imagenet"), 96),
    ],
)
def test_the_image_size_is_the_largest_that_images_and_machine_have(side: int, wishes: Wishes, size: int) -> None:
    assert chosen(wishes, median_side=side).image_size == size


def test_nothing_is_mirrored_where_a_mirror_image_is_something_else() -> None:
    assert chosen().teacher.augmentation == "natural"
    assert chosen(grey=True, median_side=28).student.augmentation == "digits"
    assert chosen(classes={"a": 50, "b": 50}, grey=True, drawn=True).teacher.augmentation == "digits"
    letters = dict.fromkeys("abcdefghij", 50)
    assert chosen(classes=letters, drawn=True).teacher.augmentation == "digits"


def test_photos_whose_classes_are_named_by_numbers_are_mirrored_and_it_is_said(tmp_path: Path) -> None:
    assert chosen(classes={"0": 50, "1": 50}, drawn=True).teacher.augmentation == "natural"
    assert chosen(classes=dict.fromkeys("0123456789", 50), drawn=False).teacher.augmentation == "natural"


def test_unbalanced_classes_are_weighed_and_do_not_stop_the_run() -> None:
    assert chosen().teacher.class_weights is None
    some = chosen(classes={"cat": 30, "dog": 90})
    assert (some.teacher.class_weights, some.student.class_weights) == ("balanced", "balanced")
    assert some.checks.severity == {}
    assert chosen(classes={"cat": 10, "dog": 900}).checks.severity == {"class_balance": "warn"}


def test_more_labels_are_trained_longer_with_larger_batches_on_a_higher_rung() -> None:
    few, many = chosen(), chosen(classes={"cat": 6000, "dog": 6000}, unlabeled_images=100_000)
    assert few.teacher.backbone == "efficientnet_b0_050"
    assert many.teacher.backbone == "efficientnet_b0_070"
    assert many.teacher.steps > few.teacher.steps
    assert many.teacher.batch_size > few.teacher.batch_size
    assert few.student.backbone is None  # the next rung


def test_the_threshold_is_lower_where_many_classes_share_the_confidence() -> None:
    values = [
        chosen(classes={f"class {k}": 20 for k in range(count)}).pseudo_label.threshold for count in (2, 10, 40, 200)
    ]
    assert [getattr(each, "value", None) for each in values] == [0.9, 0.9, 0.8, 0.7]
    many = {"cat": 2000, "dog": 2000}
    assert chosen(Wishes(teacher_weights="imagenet"), classes=many).pseudo_label.threshold == Fixed(value=0.8)


def test_few_labels_fit_a_head_and_are_spread_and_a_control_says_what_the_pool_gave() -> None:
    made = chosen(Wishes(teacher_weights="imagenet"))
    assert made.pseudo_label == PseudoLabel(labeler="propagate", targets="hard", threshold=Fixed(value=0.5))
    assert (made.student.pseudo_weight, made.control) == (0.5, "supervised")
    many = chosen(Wishes(teacher_weights="imagenet"), classes={"cat": 2000, "dog": 2000})
    assert (many.pseudo_label.labeler, many.student.pseudo_weight, many.control) == ("teacher", 1.0, "none")
    assert (chosen().pseudo_label.labeler, chosen().control) == ("teacher", "none")


def test_a_pretrained_backbone_stays_frozen_on_few_labels_and_is_trained_gently_on_many(tmp_path: Path) -> None:
    small, large = tmp_path / "small.h5", tmp_path / "large.h5"
    small.touch()
    large.touch()
    wishes = Wishes(None, "mobilenet_v2_035", str(small), "mobilenet_v2_100", str(large))
    few, many = chosen(wishes), chosen(wishes, classes={"cat": 2000, "dog": 2000})
    for made in (few, many):
        assert (made.teacher.backbone, made.teacher.weights) == ("mobilenet_v2_035", str(small))
        assert (made.student.backbone, made.student.weights) == ("mobilenet_v2_100", str(large))
    for recipe in (few.teacher, few.student):
        assert recipe.fits_only
    for recipe in (many.teacher, many.student):
        assert 0 < recipe.freeze_steps < recipe.steps
        assert recipe.learning_rate * recipe.unfreeze_rate < 3e-4


def test_a_student_never_starts_from_nothing_after_a_pretrained_teacher(tmp_path: Path) -> None:
    weights = tmp_path / "small.h5"
    weights.touch()
    alone = chosen(Wishes(teacher_backbone="mobilenet_v2_035", teacher_weights=str(weights)))
    assert (alone.student.backbone, alone.student.weights) == ("mobilenet_v2_035", str(weights))
    assert chosen(Wishes(teacher_weights="imagenet")).student.weights == "imagenet"
    assert chosen(Wishes(teacher_weights="imagenet")).student.backbone is None
    with pytest.raises(ConfigError, match="give --student-weights"):
        chosen(Wishes(None, "mobilenet_v2_035", str(weights), "mobilenet_v2_100"))


def test_wishes_that_cannot_be_met_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.h5").touch()
    with pytest.raises(BackboneError, match="did you mean 'mobilenet_v2_035'"):
        chosen(Wishes(teacher_backbone="mobilnet_v2_035"))
    with pytest.raises(ConfigError, match="is not a file"):
        chosen(Wishes(teacher_backbone="mobilenet_v2_035", teacher_weights=str(tmp_path / "gone.h5")))
    with pytest.raises(ConfigError, match="name it with --teacher-backbone"):
        chosen(Wishes(teacher_weights=str(tmp_path / "w.h5")))


def test_too_few_classes_labels_or_images_are_errors_that_say_which() -> None:
    with pytest.raises(SourceError, match="one class folder, 'cat'"):
        chosen(classes={"cat": 50})
    with pytest.raises(SourceError, match=r"'dog' has 2\. A class needs at least 3"):
        chosen(classes={"cat": 50, "dog": 2})
    with pytest.raises(SourceError, match="holds no image"):
        chosen(unlabeled_images=0)


def test_a_class_of_few_labels_lowers_the_floor_and_is_said() -> None:
    made = choose(SOURCE, seen(classes={"cat": 50, "dog": 4}), Wishes())
    assert made.experiment.splitting.min_per_class == 1
    assert made.experiment.checks.min_images_per_class == 1
    assert any("4 labelled images of 'dog'" in note for note in made.notes)
    given_splits = chosen(classes={"cat": 5, "dog": 2}, validation_images=20, test_images=20)
    assert given_splits.splitting.min_per_class == 2


def test_a_small_pool_and_photos_from_scratch_are_advised_against() -> None:
    notes = " ".join(choose(SOURCE, seen(unlabeled_images=50), Wishes()).notes)
    assert "ten times as many" in notes
    assert "pretrained weights do more" in notes
    assert "pretrained" not in " ".join(choose(SOURCE, seen(), Wishes(teacher_weights="imagenet")).notes)


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "tf_flowers_s160.zip").exists(), reason=f"no flowers in SELFTRAIN_DATA ({DATA})")
def test_flowers_get_a_pretrained_configuration_at_their_own_size(tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA / "tf_flowers_s160.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        classes = sorted({name.split("/")[1] for name in names})
        for kind in classes:
            mine = sorted(name for name in names if name.split("/")[1] == kind)
            for k, name in enumerate(mine[:120]):
                folder = tmp_path / ("labeled" if k < 20 else "unlabeled") / (kind if k < 20 else "")
                folder.mkdir(parents=True, exist_ok=True)
                (folder / Path(name).name).write_bytes(archive.read(name))
    weights = [str(DATA / f"mobilenet_v2_{tag}_notop.h5") for tag in ("0.35_224", "1.0_224_tf1qat")]
    source = FolderSource(labeled=str(tmp_path / "labeled"), unlabeled=str(tmp_path / "unlabeled"))
    wishes = Wishes("flowers", "mobilenet_v2_035", weights[0], "mobilenet_v2_100", weights[1])
    made = make(source, tmp_path / "flowers.yaml", wishes=wishes)
    assert made.survey.classes == dict.fromkeys(classes, 20)
    assert made.survey.unlabeled_images >= 495  # some names come in two classes
    assert (made.survey.median_side, made.survey.formats) == (160, {"JPEG": 256})
    assert (made.experiment.image_size, made.experiment.teacher.augmentation) == (160, "natural")
    assert read_experiment(made.path) == made.experiment


@pytest.mark.parametrize("source", [SOURCE, DigitsSource(), TableSource(path="a.csv"), KerasDatasetSource()])
def test_a_source_is_known_by_its_kind_wherever_it_is_read_alone(source: Source) -> None:
    # ZenML reads a step's inputs so: a folder was tried as digits, and refused for its keys.
    assert TypeAdapter(Source).validate_python(source.model_dump()) == source
