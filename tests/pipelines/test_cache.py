"""The cache on a real store: what runs again after a change of images, labels, code or place, and what does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.site import NETWORK, TINY, Site, copy_of_repository, models_read

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

NEVER_CACHED = {"scan", "snapshot", "log_round", "log_round_2", "unseal_test", "register", "record", "run_page"}
KEYED = {
    "ingest",
    "validate",
    "train_teacher",
    "score",
    "pseudo_label",
    "train_student",
    "score_2",
    "train_baseline",
    "read_test",
}
Paint = Callable[..., Path]


@pytest.fixture(scope="module")
def here(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A copy of the repository, with its workspace inside, after one run; the best model is sure to be the teacher."""
    folder = tmp_path_factory.mktemp("site")
    experiment = {
        **TINY,
        "name": "colours",
        "workspace": ".selftrain",
        "source": {"kind": "folder", "labeled": str(colours / "labeled"), "unlabeled": str(colours / "unlabeled")},
        "teacher": {"backbone": NETWORK, "steps": 30, "validate_every": 10, "learning_rate": 0.01},
        "student": {"backbone": NETWORK, "steps": 1, "validate_every": 1, "learning_rate": 1e-9},
    }
    site = Site(folder, experiment, root=copy_of_repository(folder / "repository"))
    assert ran(site) == KEYED
    return site


def run(site: Site) -> dict[str, Any]:
    """The record of another run."""
    done = site.run("selftrain", "run", "--config", str(site.config()))
    assert done.returncode == 0, done.stdout + done.stderr
    return site.status()


def ran(site: Site) -> set[str]:
    """Which of the steps that may be cached another run does not take from the cache."""
    steps = site.steps(run(site)["run_id"])
    assert {name for name in NEVER_CACHED if steps[name] != "completed"} == set()
    return {name for name in steps if steps[name] == "completed"} - NEVER_CACHED


def change(site: Site, module: str, line: str, to: str) -> None:
    """Change the one `line` of a core module."""
    path = site.root / module
    assert path.read_text().count(line) == 1
    path.write_text(path.read_text().replace(line, to))


def test_a_run_without_a_change_is_all_cached(here: Site) -> None:
    assert ran(here) == set()


def test_a_new_unlabelled_image_trains_no_teacher_anew(here: Site, colours: Path, paint: Paint) -> None:
    paint(colours / "unlabeled" / "another.png", "red", seed=999)
    assert ran(here) == {"ingest", "validate", "pseudo_label", "train_student", "score_2"}


def test_images_that_were_collected_join_the_pool_and_train_no_teacher_anew(
    here: Site, tmp_path_factory: pytest.TempPathFactory, paint: Paint
) -> None:
    before = here.status()["rounds"][1]["pool"]
    inbox = tmp_path_factory.mktemp("inbox")
    for number in range(4):
        paint(inbox / f"{number}.png", "blue", seed=2000 + number)
    here.experiment["inbox"] = {"url": str(inbox), "settle_s": 0}
    collected = here.run("selftrain", "collect", "--config", str(here.config()))
    assert collected.returncode == 0, collected.stderr
    assert ran(here) == {"ingest", "validate", "pseudo_label", "train_student", "score_2"}
    assert here.status()["rounds"][1]["pool"] == before + 4
    assert ran(here) == set()


def test_a_changed_label_trains_everything_anew(here: Site, colours: Path) -> None:
    moved = colours / "labeled" / "red" / "0.png"
    moved.rename(colours / "labeled" / "blue" / "moved.png")
    assert ran(here) == KEYED


def test_a_changed_threshold_rule_labels_the_pool_anew_and_trains_no_teacher(here: Site) -> None:
    rule = "    return confidence >= needed[predicted]\n"
    change(here, "selftrain/selflabel/selection/thresholds.py", rule, "    return confidence > np.median(confidence)\n")
    assert ran(here) == {"pseudo_label", "train_student", "score_2"}


def test_a_changed_line_without_effect_runs_its_own_steps_and_nothing_after_them(here: Site) -> None:
    line = "    if only_first + only_second == 0:\n"
    change(here, "selftrain/evaluate/statistics/significance.py", line, f"    # Nothing tells them apart.\n{line}")
    assert ran(here) == {"score", "score_2", "read_test"}


def test_a_lost_mlflow_store_trains_nothing_and_the_model_is_registered_again(here: Site) -> None:
    shutil.rmtree(here.workspace / "mlflow")
    record = run(here)
    steps = here.steps(record["run_id"])
    assert {steps[name] for name in KEYED} == {"cached"}
    facts = here.mlflow()
    assert list(facts["versions"]) == ["1"]
    assert (record["registered_version"], record["champion_version"]) == (1, 1)
    assert record["test_looks"] == models_read(record)
    assert facts["versions"]["1"]["selftrain.manifest_digest"] == record["manifest_digest"]
    assert facts["runs"][record["run_id"]]["status"] == "FINISHED"


def test_another_clone_on_the_same_zenml_store_has_a_version_and_a_snapshot_of_its_own(here: Site) -> None:
    there = replace(here, root=copy_of_repository(here.folder / "elsewhere"))
    record = run(there)
    assert there.steps(record["run_id"])["ingest"] == "completed"
    facts = there.mlflow()
    assert list(facts["versions"]) == [str(record["registered_version"])] == ["1"]
    assert facts["versions"]["1"]["selftrain.dataset_version"] == record["dataset_version"]
    code = (
        "import json\nfrom pathlib import Path\nfrom selftrain.adapters.snapshots.repository import exists\n"
        "from selftrain.files.workspace import Workspace\n"
        f"print(json.dumps(exists(Workspace(Path({str(there.workspace)!r})), {record['dataset_version']!r})))"
    )
    assert there.ask(code) is True
    assert (there.root / record["quarantine_table"]).is_file()
