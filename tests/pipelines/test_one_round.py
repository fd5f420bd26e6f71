"""dvc.yaml: `dvc repro`, `dvc metrics`, `dvc plots` and `dvc exp run` as a DVC user expects them, on real digits."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from selftrain.adapters.registry import recall_log
from selftrain.adapters.tracking.store import open_tracking
from selftrain.selflabel.lineage.descent import Recall
from tests.pipelines.site import copy_of_repository

STAGES = ["configure", "scan", "ingest", "validate", "teacher", "pseudo_label", "student", "evaluate"]
Dvc = Callable[..., str]
pytestmark = [pytest.mark.pipeline, pytest.mark.keras, pytest.mark.slow]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as a git repository of its own, with a round so small that it learns next to nothing."""
    folder = copy_of_repository(tmp_path_factory.mktemp("round") / "repository")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for model in ("teacher", "student"):
        params[model] |= {"backbone": "mobilenet_v2_035", "steps": 4, "validate_every": 2}
    params["pseudo_label"]["threshold"]["value"] = 0.0
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for command in ("init -q", "config user.name t", "config user.email t@localhost", "add -A", "commit -q -m start"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def dvc(clone: Path) -> Dvc:
    """Runs dvc in the clone and returns what it said; a failure shows all of it."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(clone.parent / "site"),
        "ZENML_CONFIG_PATH": str(clone.parent / "zenml"),
    }

    def run(*arguments: str, fails: bool = False) -> str:
        command = [str(Path(sys.executable).parent / "dvc"), *arguments]
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout if not fails else done.stderr

    return run


def ran(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.fixture(scope="module")
def first(dvc: Dvc, clone: Path) -> list[str]:
    """The stages of the first `dvc repro`, whose results are committed to git."""
    stages = ran(dvc("repro"))
    for command in ("add -A", "commit -q -m round"):
        subprocess.run(["git", *command.split()], cwd=clone, check=True)
    return stages


def test_repro_runs_one_round_and_then_nothing_but_the_scan(dvc: Dvc, first: list[str], clone: Path) -> None:
    assert first == STAGES
    assert ran(dvc("repro")) == ["scan"]
    tracked = subprocess.run(["git", "status", "--short"], cwd=clone, capture_output=True, text=True, check=True)
    assert tracked.stdout == ""


@pytest.mark.usefixtures("first")
def test_metrics_and_plots_show_the_round(dvc: Dvc) -> None:
    shown = json.loads(dvc("metrics", "show", "--json"))[""]["data"][".round/metrics.json"]["data"]
    assert shown["pseudo_labels"] == {"pool": 1147, "accepted": 1147, "share": 1.0}
    assert 0 < shown["test"]["accuracy"] < 1
    assert shown["test"]["looks"] in (1, 2)  # the teacher, and the student where it is better on validation
    plots = json.loads(dvc("plots", "show", "--json"))
    assert not plots.get("errors")
    assert len(plots["data"]) == 6
    assert "Precision of each share of the pool, by held-out labels" in plots["data"]


@pytest.mark.usefixtures("first")
def test_an_experiment_runs_what_its_parameter_concerns_and_is_compared(dvc: Dvc, clone: Path) -> None:
    said = dvc("exp", "run", "--name", "by-macro-f1", "-S", "gate.metric=macro_f1")
    assert ran(said) == ["configure", "scan", "evaluate"]
    changed = json.loads(dvc("params", "diff", "--json", "HEAD"))
    assert changed[".round/settings/experiment.json"]["gate.metric"] == {"old": "accuracy", "new": "macro_f1"}
    assert "by-macro-f1" in dvc("exp", "list", "--name-only")
    assert dvc("metrics", "diff", "--all", "HEAD")
    looks = json.loads((clone / ".round/metrics.json").read_text())["test"]["looks"]
    assert looks in (1, 2)  # two models at the most, whichever macro-F1 prefers
    subprocess.run(["git", "checkout", "-q", "."], cwd=clone, check=True)
    dvc("checkout")


@pytest.mark.usefixtures("first")
def test_a_wiped_workspace_is_ingested_again_and_nothing_is_trained_again(dvc: Dvc, clone: Path) -> None:
    shutil.rmtree(clone / ".selftrain")
    assert ran(dvc("repro")) == ["scan", "ingest"]


@pytest.mark.usefixtures("first")
def test_failed_expectations_stop_before_training_in_one_line(dvc: Dvc, clone: Path) -> None:
    content = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(content.replace("checks: {}", "checks: {min_images_per_class: 100}"))
    try:
        said = dvc("repro", "teacher", fails=True)
    finally:
        (clone / "params.yaml").write_text(content)
    assert "images_per_class" in said
    assert "Traceback" not in said
    assert (clone / ".round/validation/validation.html").is_file()


# mlflow's SQL store leaves cursors to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.usefixtures("first")
def test_a_withdrawn_teacher_labels_nothing_though_its_labels_are_there(dvc: Dvc, clone: Path) -> None:
    identity = json.loads((clone / ".round/teacher/contract.json").read_text())["values_sha256"]
    line = Recall(number=0, when="", who="ada", action="withdraw", identity=identity, called="it", why="wrong labels")
    tracking = open_tracking(clone / ".selftrain", stack=lambda: None)
    recall_log.append(tracking, line)
    said = dvc("repro", fails=True)
    assert "of this run is withdrawn" in said
    assert "Traceback" not in said
    recall_log.append(tracking, line.model_copy(update={"action": "restore"}))
    dvc("repro")
    assert (clone / ".round/pseudo_labels.parquet").is_file()
