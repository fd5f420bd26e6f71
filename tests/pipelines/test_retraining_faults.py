"""Faults of a retraining: kill -9 at every step and at random moments, two at once, a full disk, a poisoned night."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from selftrain.retraining.journal import state_of
from tests.files.small_disk import SmallDisk, mounted
from tests.pipelines.nights import Nights, Paint, colours_experiment, timed
from tests.pipelines.site import Site

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

STEPS = [
    "look",
    "watch",
    "scan",
    "ingest",
    "snapshot",
    "validate",
    "adopt_teacher",
    "score",
    "log_round",
    "pseudo_label",
    "train_student",
    "score_2",
    "log_round_2",
    "train_baseline",
    "unseal_test",
    "read_test",
    "register",
    "record",  # it decides: after it nothing is due, and a run that dies there lacks only its page
]
CACHED = {"score"}  # the champion was scored on these very images when it was trained
KILLS = int(os.environ.get("RANDOM_KILLS", "4"))
SEED = int(os.environ.get("RANDOM_KILLS_SEED", "16"))
SAY = logging.getLogger(__name__).warning  # pytest shows it where a test fails


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk | None]:
    """A file system in memory, where this process may mount one."""
    folder = tmp_path_factory.mktemp("disk")
    disk = mounted(folder, "200m")
    yield disk if isinstance(disk, SmallDisk) else None
    if isinstance(disk, SmallDisk):
        disk.unmount()


@pytest.fixture(scope="module")
def here(colours: Path, paint: Paint, disk: SmallDisk | None, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    inbox, folder = tmp_path_factory.mktemp("inbox"), tmp_path_factory.mktemp("site")
    workspace = disk.folder / "workspace" if disk else folder / "workspace"
    return Nights(Site(folder, colours_experiment(colours, inbox, workspace=str(workspace))), inbox, paint)


@pytest.fixture(scope="module")
def whole_s(here: Nights) -> float:
    """The first champion is there; seconds that its retraining took."""
    here.arrive()
    return timed(here.retrain)


@pytest.mark.usefixtures("whole_s")
def test_a_retraining_killed_at_each_of_its_steps_takes_each_image_once_and_registers_once(here: Nights) -> None:
    here.arrive()
    command = ("zenml", "pipeline", "run", "retraining_pipeline", "--config", str(here.site.config()))
    for step in [step for step in STEPS if step not in CACHED]:
        killed = here.site.run(sys.executable, "tests/pipelines/killed_at.py", "returned", step, *command)
        assert killed.returncode == -signal.SIGKILL, f"{step} was never reached:\n{killed.stdout}{killed.stderr}"
    assert list(here.site.steps(here.site.status()["run_id"])) == STEPS, "every step that runs was killed"
    assert "not due: 0 new images of 4" in here.retrain()
    assert len(here.lines("decided")) == 2
    here.check()


def test_retrainings_killed_at_random_moments_take_each_image_once_and_register_once(
    here: Nights, whole_s: float
) -> None:
    draw, ended = random.Random(SEED), True
    SAY(f"{KILLS} kills in up to {whole_s:.0f} s, RANDOM_KILLS_SEED={SEED}")
    for number in range(KILLS):
        if ended:
            here.arrive()
        after_s = draw.uniform(0.05, 1) * whole_s
        ended = here.killed_after(after_s)
        SAY(f"{number}: {'had ended before' if ended else 'killed after'} {after_s:.1f} s, at {here.lines()[-1].kind}")
    here.retrain()
    here.check()
    assert "not due: 0 new images of 4" in here.retrain()


@pytest.mark.usefixtures("whole_s")
def test_of_two_retrainings_at_once_one_runs_and_the_other_is_made_up_by_one_look(here: Nights) -> None:
    here.arrive()
    before = len(here.lines())
    zenml = ("zenml", "pipeline", "run", "retraining_pipeline", "--config", str(here.site.config()))
    both = [here.site.start(*command) for command in (here.command(), zenml)]
    said = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    kinds = [line.kind for line in here.lines()[before:]]
    assert (kinds.count("started"), kinds.count("decided"), kinds.count("missed")) == (1, 1, 1)
    after_it = kinds[kinds.index("missed") :]
    assert after_it.count("look") == 1, "one look made up for it: that of the run, if it came later, or one after it"
    assert not state_of(here.lines()).owed
    here.check()


@pytest.mark.usefixtures("whole_s")
def test_a_retraining_whose_disk_is_full_says_so_in_one_line_and_the_next_one_goes_on(
    here: Nights, disk: SmallDisk | None
) -> None:
    if disk is None:
        pytest.skip("only root may mount a small file system")
    here.arrive()
    disk.leave(200)
    failed = here.site.run(*here.command())
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("Error: ")]
    assert f"the disk of {disk.folder}" in line
    assert "selftrain clean --keep-runs" in line
    disk.resize("200m")
    here.retrain()
    here.check()


@pytest.mark.usefixtures("whole_s")
def test_a_poisoned_night_changes_no_champion_and_a_promotion_by_hand_is_recalled_and_rolled_back(here: Nights) -> None:
    before = here.champion()
    here.arrive(("red",) * 60)
    guards = {"class_mix": 0.2, "actions": {"class_mix": "keep_teacher"}}
    night = replace(here, site=replace(here.site, experiment={**here.site.experiment, "guards": guards}))
    night.retrain()
    record = here.site.status()
    assert "class_mix" in [alarm["guard"] for alarm in record["alarms"]]
    assert not record["rounds"][-1]["kept"]
    assert not record["promoted"]
    assert here.champion() == before

    others = [int(number) for number in here.site.mlflow()["versions"] if int(number) != before]
    where = ("--workspace", str(here.site.workspace), "--model-name", "colours")
    force = ("selftrain", "promote", str(max(others)), "--force", "--why", "it looked good", *where)
    assert here.site.run(*force).returncode == 0
    recall = ("selftrain", "recall", str(max(others)), "--reason", "poisoned", "--rollback", *where)
    recalled = here.site.run(*recall)
    assert recalled.returncode == 0, recalled.stderr
    assert here.champion() == before
    again = here.site.run(*force)
    assert again.returncode == 1
    assert "withdrawn" in again.stderr
