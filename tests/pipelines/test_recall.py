"""Lineage and recall on a real run: who said what, and that nothing which was withdrawn is used again."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from tests.pipelines.site import NETWORK, ROOT, TINY, Site, copy_of_repository

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

POOL = 30
PAGE = ROOT / "docs" / "lineage.md"
Paint = Callable[..., Path]


@pytest.fixture(scope="module")
def here(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A copy of the repository, its workspace inside: a teacher that knows nothing, a student that learns colours."""
    folder = tmp_path_factory.mktemp("site")
    experiment = {
        **TINY,
        "name": "colours",
        "workspace": ".selftrain",
        "source": {"kind": "folder", "labeled": str(colours / "labeled"), "unlabeled": str(colours / "unlabeled")},
        "teacher": {"backbone": NETWORK, "steps": 1, "validate_every": 1, "learning_rate": 1e-6},
        "student": {
            "backbone": NETWORK,
            "steps": 30,
            "validate_every": 10,
            "learning_rate": 0.01,
            "pseudo_weight": 0.01,
        },
        "registry": {"model_name": "colours", "floors": {"accuracy": 0.01}, "first_champion": "any"},
    }
    return Site(folder, experiment, root=copy_of_repository(folder / "repository"))


@pytest.fixture(scope="module")
def first(here: Site) -> dict[str, Any]:
    """The record of a run whose champion is a student."""
    done = here.run("selftrain", "run", "--config", str(here.config()))
    assert done.returncode == 0, done.stdout + done.stderr
    record = here.status()
    assert (record["rounds"][1]["kept"], record["champion_version"]) == (True, 1)
    return record


@pytest.fixture(scope="module")
def teacher(here: Site, first: dict[str, Any]) -> str:
    """The digest of the teacher that labelled the pool, as the registry has it."""
    digest: str = here.mlflow()["versions"]["1"]["selftrain.lineage.0"]
    assert re.fullmatch("[0-9a-f]{64}", digest)
    return digest


def asked(site: Site, *arguments: object) -> Any:
    """The JSON that a command prints."""
    done = site.run("selftrain", *map(str, arguments), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(site: Site, *arguments: object, code: int) -> str:
    """The one line of an expected error."""
    done = site.run("selftrain", *map(str, arguments))
    assert (done.returncode, done.stdout) == (code, ""), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_the_label_of_an_image_is_found_by_its_bytes_with_all_that_led_to_it(
    here: Site, first: dict[str, Any], teacher: str, colours: Path, tmp_path: Path
) -> None:
    copy = shutil.copy(colours / "unlabeled" / "red20.png", tmp_path / "elsewhere.png")
    found = asked(here, "labels", "--image", copy)
    (label,) = found["labels"]
    code = (
        "import json\nfrom zenml.client import Client\n"
        f"step = Client().get_pipeline_run({first['run_id']!r}).steps['pseudo_label']\n"
        "print(json.dumps(step.outputs['pseudo_labels'][0].uri))"
    )
    kept = PseudoLabels.read(Path(here.ask(code)) / "table.parquet")
    (row,) = [row for row in kept.table.to_pylist() if row["image_id"] == label["image_id"]]
    assert found["total"] == 1
    assert (label["run"], label["round"], label["teacher"]) == (first["run_id"], 1, teacher)
    assert (label["version"], label["trust"]) == (None, "trusted")
    assert label["origin"].endswith("unlabeled/red20.png")
    assert label["predicted"] == kept.class_names[row["label"]]
    assert list(label["probabilities"]) == ["blue", "green", "red"]
    assert list(label["probabilities"].values()) == pytest.approx(row["probs"])
    assert label["confidence"] == pytest.approx(max(label["probabilities"].values()))
    assert (label["threshold"], label["cutoff"]) == (kept.threshold, pytest.approx(0.2))
    assert (label["accepted"], label["reason"]) == (row["accepted"], row["reason"])
    by_id = asked(here, "labels", "--image", label["image_id"][:10], "--teacher", teacher[:8])
    assert by_id["labels"] == [label]


def test_a_person_sees_the_same_and_how_many_are_not_shown(here: Site, teacher: str) -> None:
    shown = here.run("selftrain", "labels", "--teacher", teacher, "--limit", "5")
    assert shown.returncode == 0, shown.stderr
    header, *lines, counted = shown.stdout.splitlines()
    assert header.split()[:4] == ["image", "from", "run", "round"]
    assert len(lines) == 5
    assert all(teacher[:12] in line and "trusted" in line for line in lines)
    assert counted == f"{POOL} pseudo-labels; {POOL - 5} more are not shown (--limit, --out)"


def test_all_labels_of_a_teacher_go_into_a_table(here: Site, teacher: str, colours: Path, tmp_path: Path) -> None:
    for suffix in ("parquet", "csv"):
        found = asked(here, "labels", "--teacher", teacher, "--out", tmp_path / f"said.{suffix}", "-n", 0)
        assert (found["total"], found["labels"]) == (POOL, [])
    said = pq.read_table(tmp_path / "said.parquet")
    assert said.num_rows == POOL
    origins = {Path(origin).name for origin in said["origin"].to_pylist()}
    assert origins == {path.name for path in (colours / "unlabeled").iterdir()}
    text = pyarrow.csv.read_csv(tmp_path / "said.csv")
    assert text["image_id"].to_pylist() == said["image_id"].to_pylist()
    assert text["p_red"].to_pylist() == pytest.approx(said["p_red"].to_pylist())
    again = refused(here, "labels", "--teacher", teacher, "--out", tmp_path / "said.csv", code=2)
    assert "was left unchanged" in again


def test_a_version_that_labelled_nothing_has_no_labels(here: Site, first: dict[str, Any]) -> None:
    assert asked(here, "labels", "--teacher", "1") == {"total": 0, "labels": [], "written": None, "gone": []}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("labels",), "say which labels"),
        (("labels", "--image", "gone.png"), "is neither a file nor an image_id"),
        (("labels", "--image", "0000000000"), "no image whose image_id begins with 0000000000 has a pseudo-label"),
        (("labels", "--teacher", "9"), "no version 9; there are: 1"),
        (("labels", "--teacher", "0000000000"), "no model known here"),
        (("labels", "--teacher", "1", "--out", "said.txt"), "new .parquet or .csv"),
        (("recall",), "say which teacher"),
        (("recall", "1"), "needs a reason"),
        (("recall", "9", "--reason", "x"), "no version 9; there are: 1"),
        (("recall", "1", "--undo"), "is not withdrawn"),
        (("recall", "1", "--undo", "--rollback"), "leave out --out and --rollback"),
        (("recall", "1", "--list"), "use it alone"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    here: Site, first: dict[str, Any], arguments: tuple[str, ...], said: str
) -> None:
    assert said in refused(here, *arguments, code=2)


def test_what_was_refused_has_withdrawn_nothing(here: Site, first: dict[str, Any]) -> None:
    assert asked(here, "recall", "--list") == []


def test_before_the_first_run_there_is_nothing_to_ask_about(here: Site, tmp_path: Path) -> None:
    fresh = replace(here, folder=tmp_path)
    fresh = replace(fresh, root=copy_of_repository(tmp_path / "repository"))
    assert "no run has been started yet" in refused(fresh, "labels", "--image", "0" * 64, code=2)
    assert "no run has been started yet" in refused(fresh, "report", code=2)
    assert "has no registry yet" in refused(fresh, "recall", "1", "--reason", "x", code=1)
    assert asked(fresh, "recall", "--list") == []


def test_a_recall_lists_all_that_was_said_and_learnt_from_it(
    here: Site, first: dict[str, Any], teacher: str, tmp_path: Path
) -> None:
    reason = ("--reason", "it had learnt nothing")
    done = here.run("selftrain", "recall", teacher[:9], *reason, "--out", str(tmp_path / "said.csv"), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (labelled,) = report["rounds"]
    assert (labelled["run"], labelled["round"], labelled["given"]) == (first["run_id"], 1, POOL)
    assert labelled["accepted"] == first["rounds"][1]["accepted"]
    assert sum(each["given"] for each in labelled["classes"].values()) == POOL
    assert (labelled["teacher"], labelled["trust"]) == (teacher, "withdrawn")
    (version,) = report["versions"]
    assert (version["uri"], version["trust"], version["aliases"]) == ("models:/colours/1", "tainted", ["champion"])
    assert "WARNING: the champion models:/colours/1 is tainted" in done.stderr
    assert "selftrain rollback" in done.stderr
    assert set(pyarrow.csv.read_csv(tmp_path / "said.csv")["trust"].to_pylist()) == {"withdrawn"}
    (line,) = asked(here, "recall", "--list")
    assert (line["action"], line["identity"], line["why"]) == ("withdraw", teacher, "it had learnt nothing")
    again = asked(here, "recall", teacher)
    assert (again["new"], again["rounds"], again["versions"]) == (False, report["rounds"], report["versions"])
    assert len(asked(here, "recall", "--list")) == 1
    stuck = here.run("selftrain", "recall", teacher, "--rollback")
    assert (stuck.returncode, "already withdrawn" in stuck.stdout) == (1, True)
    assert "no earlier champion to go back to" in stuck.stderr


def test_the_same_run_stops_before_anything_is_labelled_though_the_cache_has_it(
    here: Site, first: dict[str, Any], teacher: str
) -> None:
    done = here.run("selftrain", "run", "--config", str(here.config()))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = " ".join(done.stderr.split())
    assert f"{teacher[:12]} of this run is withdrawn" in said
    assert "it had learnt nothing" in said
    assert "Change what it learns from" in said
    newest = here.status()
    assert (newest["status"], newest["run_id"] != first["run_id"]) == ("failed", True)
    assert "is withdrawn" in newest["error"]
    steps = here.steps(newest["run_id"])
    assert steps["train_teacher"] == "cached"
    assert "pseudo_label" not in steps


def test_a_champion_that_it_taught_is_no_teacher_to_start_from(here: Site, first: dict[str, Any]) -> None:
    done = here.run("selftrain", "run", "--config", str(here.config(teacher={"start": "champion"})))
    assert done.returncode == 1
    assert "models:/colours/1 is tainted" in " ".join(done.stderr.split())


def test_history_and_status_say_that_the_champion_is_tainted(here: Site, first: dict[str, Any], teacher: str) -> None:
    shown = here.run("selftrain", "history")
    assert shown.returncode == 0, shown.stderr
    assert f"withdraw  teacher {teacher[:12]}  it had learnt nothing" in shown.stdout
    assert "WARNING: the champion models:/colours/1 is tainted" in shown.stderr
    status = here.run("selftrain", "status", first["run_id"])
    assert "WARNING: models:/colours/1 is tainted" in status.stdout
    assert "no earlier champion" in refused(here, "rollback", code=1)


def test_another_seed_trains_another_teacher_and_the_record_says_what_the_champion_is(
    here: Site, first: dict[str, Any], teacher: str
) -> None:
    done = here.run("selftrain", "run", "--config", str(here.config(seed=1)))
    assert done.returncode == 0, done.stderr
    record = here.status()
    assert record["registered_version"] == 2
    tags = here.mlflow()["versions"]["2"]
    assert tags["selftrain.lineage.0"] not in ("", teacher)
    if not record["promoted"]:
        assert "the champion models:/colours/1 is tainted" in record["promotion_reason"]
        assert here.run("selftrain", "promote", "2", "--force", "--why", "1 is tainted").returncode == 0
    assert "models:/colours/1 is tainted" in refused(here, "rollback", code=1)
    assert "models:/colours/1 is tainted" in refused(here, "promote", "1", "--force", "--why", "x", code=1)
    undone = asked(here, "recall", teacher, "--undo", "--reason", "no longer needed")
    assert undone["action"] == "restore"
    back = here.run("selftrain", "recall", "2", "--reason", "worse in production", "--rollback")
    assert back.returncode == 0, back.stderr
    assert back.stdout.splitlines()[-1] == "rolled back: models:/colours/1 is champion"
    log = asked(here, "history")
    assert (log[-1]["action"], log[-1]["to"]) == ("rollback", 1)
    assert log[-1]["why"] == "models:/colours/2 was recalled: worse in production"


def test_the_commands_of_the_page_run_as_they_stand(here: Site, teacher: str, colours: Path, tmp_path: Path) -> None:
    commands = [line.strip() for line in PAGE.read_text().splitlines() if line.startswith("    selftrain ")]
    assert len(commands) == 7
    (tmp_path / ".selftrain").symlink_to(here.root / ".selftrain")
    environment = {**here.environment(), "IMAGE": str(colours / "unlabeled" / "blue20.png"), "TEACHER": teacher}
    for command in commands:
        assert shlex.split(command, comments=True)[0] == "selftrain"
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert pq.read_metadata(tmp_path / "said.parquet").num_rows == POOL
