"""What `dvc repro` runs: params.yaml over its config over the defaults, each number owned once."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from selftrain.adapters.snapshots.round_settings import StageSettings, StudentSettings, resolve_settings, stage_settings
from selftrain.config import Machine, PseudoLabel, Quantile, Recipe, Student
from selftrain.config.text.file import read_experiment
from selftrain.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
PARAMS = ROOT / "params.yaml"


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({"config": str(ROOT / "configs/digits.yaml"), **changes}))
    return path


def values(section: object) -> list[object]:
    return [each for value in section.values() for each in values(value)] if isinstance(section, dict) else [section]


def test_params_yaml_repeats_no_value_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    content = yaml.safe_load(PARAMS.read_text())
    config = content.pop("config")
    assert set(values(content)) == {None}
    assert YAML(typ="safe").load(PARAMS.read_text()) == {"config": config, **content}  # DVC refuses a key said twice
    assert resolve_settings(PARAMS) == read_experiment(Path(config))


def test_every_number_of_a_recipe_can_be_set_without_a_plus() -> None:
    content = yaml.safe_load(PARAMS.read_text())
    assert set(content["teacher"]) - {"start"} == set(Recipe.model_fields)
    assert set(content["student"]) == set(Student.model_fields)
    assert set(content["pseudo_label"]) == set(PseudoLabel.model_fields) - {"batch_size"}
    assert set(content["machine"]) == set(Machine.model_fields)


def test_a_value_goes_before_the_config_and_the_config_before_the_default(tmp_path: Path) -> None:
    resolved = resolve_settings(written(tmp_path, teacher={"steps": 7, "ema": None}))
    assert resolved.teacher.steps == 7
    assert resolved.teacher.ema == 0.99
    assert resolved.gate.max_rounds == read_experiment(ROOT / "configs/digits.yaml").gate.max_rounds


def test_another_kind_of_threshold_replaces_the_section(tmp_path: Path) -> None:
    changed = {"threshold": {"kind": "quantile", "value": None, "start": 0.4}}
    assert resolve_settings(written(tmp_path, pseudo_label=changed)).pseudo_label.threshold == Quantile(start=0.4)


def test_an_unknown_key_names_the_file_and_the_nearest_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml: .*'stepz'.*'steps'"):
        resolve_settings(written(tmp_path, teacher={"stepz": 7}))


@pytest.mark.parametrize("content", ["", "seed: 1\n", "- 1\n", "config: [1]\n", "config: {a: ]\n"])
def test_params_without_a_config_say_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        resolve_settings(tmp_path / "params.yaml")


def test_changed_data_gets_a_dataset_of_its_own(tmp_path: Path) -> None:
    assert resolve_settings(written(tmp_path, source={}, teacher={"steps": 7})).name == "digits"
    fewer, more = (resolve_settings(written(tmp_path, source={"labeled": count})).name for count in (50, 60))
    assert fewer.startswith("digits-")
    assert len({"digits", fewer, more}) == 3


def sections(settings: StageSettings) -> dict[str, Any]:
    return settings.model_dump(exclude={"code"})


@pytest.mark.parametrize(
    ("changes", "concerned"),
    [
        ({"gate": {"target": 0.9}}, {"evaluate"}),
        ({"checks": {"max_class_ratio": 5.0}}, {"validate"}),
        ({"pseudo_label": {"targets": "hard"}}, {"pseudo_label"}),
        ({"student": {"steps": 7}}, {"student"}),
        ({"seed": 3}, {"teacher", "student"}),
        ({"source": {"labeled": 50}}, {"ingest"}),
        ({"title": "Another", "workspace": "elsewhere"}, set()),
        ({"machine": {"decoded_mb": 0, "checkpoint_s": 1.0, "workers": 1, "shard_mb": 1}}, set()),
    ],
)
def test_a_change_concerns_only_the_stages_that_read_it(
    tmp_path: Path, changes: dict[str, Any], concerned: set[str]
) -> None:
    before, after = (
        stage_settings(resolve_settings(written(tmp_path))),
        stage_settings(resolve_settings(written(tmp_path, **changes))),
    )
    assert {name for name in before if sections(before[name]) != sections(after[name])} == concerned


@pytest.mark.parametrize(
    ("start", "settled", "frozen", "rate"),
    [("new", "new", 20, 3e-3), ("student", "new", 20, 3e-3), ("teacher", "teacher", 0, 3e-4)],
)
def test_the_one_student_of_a_round_is_settled_by_what_it_starts_from(
    tmp_path: Path, start: str, settled: str, frozen: int, rate: float
) -> None:
    network = {"backbone": "efficientnet_b0", "weights": "imagenet", "freeze_steps": 20}
    student = {**network, "start": start, "steps": 100, "learning_rate": 3e-3}
    found = stage_settings(resolve_settings(written(tmp_path, teacher=network, student=student)))["student"]
    assert isinstance(found, StudentSettings)
    assert (found.student.start, found.student.freeze_steps) == (settled, frozen)
    assert found.student.learning_rate == pytest.approx(rate)


def test_settings_come_back_from_their_file(tmp_path: Path) -> None:
    for settings in stage_settings(resolve_settings(written(tmp_path))).values():
        assert type(settings).model_validate(json.loads(settings.model_dump_json())) == settings
