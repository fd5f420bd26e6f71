"""dvc.yaml and the committed DVC configuration, read as files."""

import configparser
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
STAGES = ["configure", "scan", "ingest", "validate", "teacher", "pseudo_label", "student", "evaluate"]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())


def names(entries: list[Any]) -> set[str]:
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def test_every_stage_has_its_command() -> None:
    from pipelines import one_round

    assert list(PIPELINE["stages"]) == list(one_round.STAGES) == STAGES
    for name, stage in PIPELINE["stages"].items():
        assert stage["cmd"] == f"python -m pipelines.one_round {name}"


def test_every_stage_depends_on_its_settings_and_its_own_source() -> None:
    for name in STAGES[2:]:
        assert {"pipelines/one_round.py", f".round/settings/{name}.json"} <= names(PIPELINE["stages"][name]["deps"])


def test_no_output_lies_in_the_workspace_which_is_a_dvc_repository_of_its_own() -> None:
    for stage in PIPELINE["stages"].values():
        assert all(path.startswith(".round/") for path in names(stage["outs"] + stage.get("metrics", [])))


def test_every_plot_is_drawn_from_an_output() -> None:
    outs = {path for stage in PIPELINE["stages"].values() for path in names(stage["outs"])}
    drawn = {path for plot in PIPELINE["plots"] for settings in plot.values() for path in settings["y"]}
    assert drawn <= outs


def test_the_committed_dvc_folder_holds_no_path_and_no_analytics() -> None:
    config = configparser.ConfigParser()
    config.read_string("\n".join(line.strip() for line in (ROOT / ".dvc/config").read_text().splitlines()))
    assert config["core"].getboolean("analytics") is False
    assert not [value for section in config.values() for value in section.values() if value.startswith("/")]
    ignored = (ROOT / ".dvcignore").read_text().split()
    assert {".selftrain", ".venv"} <= set(ignored)


def test_an_experiment_in_a_copy_shares_the_workspace_of_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import one_round

    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "params.yaml").write_text(f"config: {ROOT / 'configs/digits.yaml'}\n")
    monkeypatch.chdir(copy)
    one_round.configure()
    monkeypatch.setenv("DVC_ROOT", str(copy))
    assert one_round._place().workspace == ".selftrain"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert one_round._place().workspace == str(tmp_path / ".selftrain")
