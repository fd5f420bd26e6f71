"""Interruption: kill -9 at each step, then the same command again: it continues and registers once."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.pipelines.site import TINY, Site, kill_group, models_read

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

STEPS = [
    "scan",
    "ingest",
    "snapshot",
    "validate",
    "train_teacher",
    "score",
    "log_round",
    "pseudo_label",
    "train_student",
    "score_2",
    "train_baseline",
    "unseal_test",
    "read_test",
    "register",
    "record",
    "run_page",
]
# These leave something outside ZenML, which a repetition finds; of the others a kill at their end is one before them.
LEAVE_SOMETHING = {"ingest", "snapshot", "train_teacher", "log_round", "unseal_test", "register", "record"}


def kill(site: Site, point: str, name: str) -> list[str]:
    """Start a run that is killed at `point` of `name`; the states of all runs before it, as it saw them then."""
    command = ("zenml", "pipeline", "run", "ssl_pipeline", "--config", str(site.config()))
    done = site.run(sys.executable, "tests/pipelines/killed_at.py", point, name, *command)
    assert done.returncode == -signal.SIGKILL, f"{point} {name} was never reached:\n{done.stdout}{done.stderr}"
    states: list[str] = json.loads(done.stdout.strip().splitlines()[-1])
    return states


def test_a_run_killed_anywhere_is_failed_at_the_next_start_and_registers_once(site: Site) -> None:
    inside = [(point, step) for step in STEPS for point in ("entered", "returned")]
    inside = [(point, step) for point, step in inside if point == "entered" or step in LEAVE_SOMETHING]
    # Before the run has a lock, and after it has let go of it while ZenML takes the run for alive.
    points = [("entered", "pipeline"), *inside, ("returned", "pipeline")]
    for killed, (point, name) in enumerate(points):
        assert kill(site, point, name) == ["failed"] * killed, f"before the kill at {point} {name}"
    done = site.run("selftrain", "run", "--config", str(site.config()))
    assert done.returncode == 0, done.stdout + done.stderr

    assert site.run_states() == ["completed", *["failed"] * len(points)]
    record = site.status()
    assert record["registered_version"] == 1
    assert record["champion_version"] == 1
    assert record["test_looks"] == models_read(record), "a look taken again counts once"
    facts = site.mlflow()
    assert list(facts["versions"]) == ["1"]
    assert "RUNNING" not in {run["status"] for run in facts["runs"].values()}


def test_training_resumes_from_its_checkpoint_after_a_kill(tmp_path: Path) -> None:
    teacher = {**TINY["teacher"], "steps": 500, "validate_every": 250}
    site = Site(tmp_path, {**TINY, "teacher": teacher, "machine": {"checkpoint_s": 1.0}})
    process = site.start("selftrain", "run", "--config", str(site.config()))
    deadline = time.monotonic() + 300
    while not list((site.workspace / "checkpoints").rglob("*.h5")) + list(
        (site.workspace / "checkpoints").rglob("*.npz")
    ):
        assert time.monotonic() < deadline, "no checkpoint was written"
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.5)
    time.sleep(3)
    kill_group(process)
    done = site.run("selftrain", "run", "--config", str(site.config()))
    assert done.returncode in (0, 3), done.stderr
    first_shown = re.search(r"teacher: (\d+) of 500", done.stderr)
    assert first_shown is not None
    assert int(first_shown[1]) > 1, "training began anew"
