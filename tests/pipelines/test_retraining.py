"""Retraining on a real store: what is due, what is new, who teaches, and when it stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftrain.data.intake_table import intake_path, read_intake
from selftrain.retraining.journal import Journal, seen_rows, state_of
from tests.pipelines.site import NETWORK, TINY, Site

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

Paint = Callable[..., Path]
RETRAIN = ("zenml", "pipeline", "run", "retraining_pipeline", "--stack", "default")


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inbox")


@pytest.fixture(scope="module")
def here(colours: Path, inbox: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose experiment learns colours, with an inbox; four new images are enough."""
    recipe = {"backbone": NETWORK, "steps": 30, "validate_every": 10, "learning_rate": 0.01}
    experiment = {
        **TINY,
        "name": "colours",
        "source": {"kind": "folder", "labeled": str(colours / "labeled"), "unlabeled": str(colours / "unlabeled")},
        "teacher": recipe,
        "student": recipe,
        "registry": {"model_name": "colours", "floors": {"accuracy": 0.01}, "first_champion": "any"},
        "inbox": {"url": str(inbox), "settle_s": 0},
        "retrain": {"any_of": {"min_new": 4, "manual": True}, "max_failures": 2},
        "notify": {"command": f"tee -a {inbox.parent / 'notices.txt'}", "events": ["promoted", "refused", "failed"]},
    }
    return Site(tmp_path_factory.mktemp("site"), experiment)


def journal(site: Site) -> Journal:
    return Journal(site.workspace / "datasets" / "colours.retraining.jsonl")


def seen(site: Site) -> int:
    """How many files of the inbox the decided runs have seen."""
    return seen_rows(journal(site).lines(), read_intake(intake_path(site.workspace / "datasets" / "colours")))


def arrive(inbox: Path, paint: Paint, night: int, count: int = 6) -> None:
    """New images of all three colours."""
    for index in range(count):
        colour = ("red", "green", "blue")[index % 3]
        paint(inbox / f"night{night}" / f"{index}.png", colour, seed=10_000 + 100 * night + index)


def retrain(site: Site, *more: str, code: int = 0) -> str:
    """What `selftrain retrain` says on both streams."""
    done = site.run("selftrain", "retrain", "--config", str(site.config()), *more)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_nothing_is_due_before_enough_images_came_and_the_reason_is_kept(here: Site, inbox: Path, paint: Paint) -> None:
    arrive(inbox, paint, 1, count=3)
    assert "not due: 3 new images of 4; nobody asked" in retrain(here)
    (line,) = journal(here).lines()
    assert (line.kind, line.facts["reason"]) == ("look", "3 new images of 4; nobody asked")
    assert here.run_states() == []


def test_the_first_retraining_trains_a_teacher_and_its_pool_has_the_new_images(
    here: Site, inbox: Path, paint: Paint
) -> None:
    paint(inbox / "late.png", "blue", seed=777)
    assert "due: 4 new images of 4" in retrain(here, "--dry-run")
    retrain(here)
    record = here.status()
    assert record["rounds"][1]["pool"] == 30 + 4
    assert record["champion_version"] == 1
    assert (seen(here), state_of(journal(here).lines()).failures) == (4, 0)
    assert journal(here).lines()[-1].facts["dataset_version"] == record["dataset_version"]
    assert "not due: 0 new images of 4" in retrain(here)


def test_the_champion_teaches_the_next_one_by_zenmls_own_command(here: Site, inbox: Path, paint: Paint) -> None:
    arrive(inbox, paint, 2)
    done = here.run(*RETRAIN, "--config", str(here.config()))
    assert done.returncode == 0, done.stdout + done.stderr
    record = here.status()
    steps = here.steps(record["run_id"])
    assert "adopt_teacher" in steps
    assert "train_teacher" not in steps
    assert record["rounds"][1]["pool"] == 30 + 4 + 6
    told = [json.loads(line) for line in (here.workspace / "notices.jsonl").read_text().splitlines()]
    told = [each for each in told if each["channel"] == "command"]
    assert {each["event"] for each in told} <= {"promoted", "refused"}
    assert told[0]["event"] == "promoted"
    assert all(each["delivered"] for each in told)
    assert '"event": "promoted"' in (inbox.parent / "notices.txt").read_text()
    page = here.folder / "report.html"
    done = here.run("selftrain", "report", record["run_id"], "--out", str(page))
    assert done.returncode == 0, done.stdout + done.stderr
    section = page.read_text().split('<h2 id="drift">', 1)[1].split("</section>", 1)[0]
    assert "no decision: 6 new images, and drift.min_images is 100" in section
    assert "How far the 6 new images are from others" in section
    assert section.count('<th scope="row">') == 5  # three distances, the window of the first night and this one


def test_failures_in_a_row_stop_it_until_somebody_resumes(here: Site, inbox: Path, paint: Paint) -> None:
    arrive(inbox, paint, 9)
    broken = replace(here, experiment={**here.experiment, "checks": {"min_images_per_class": 1000}})
    for _ in range(2):
        assert "images_per_class" in retrain(broken, code=2)
    assert "stopped after 2 failures in a row" in retrain(here)
    assert "stopped after 2 failures in a row" in retrain(here, "--now")
    resumed = retrain(here, "--resume", "--dry-run")
    assert "stopped after 2 failures" in resumed  # a dry run resumes nothing
    retrain(here, "--resume")
    assert state_of(journal(here).lines()).failures == 0


def test_the_versions_and_the_intake_add_up(here: Site) -> None:
    facts: dict[str, Any] = here.mlflow()
    decided = [line for line in journal(here).lines() if line.kind == "decided"]
    assert len(facts["versions"]) <= len(decided)
    assert len({line.facts["run"] for line in decided}) == len(decided)
