"""Faults of a retraining: kill -9 at every step and at random moments, two at once, a poisoned night."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from selftrain.retraining.journal import state_of
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
    "unseal_test",
    "read_test",
    "register",
    "record",
]
KILLS = int(os.environ.get("RANDOM_KILLS", "4"))
SEED = int(os.environ.get("RANDOM_KILLS_SEED", "16"))
SAY = logging.getLogger(__name__).warning  # pytest shows it where a test fails


@pytest.fixture(scope="module")
def here(colours: Path, paint: Paint, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    inbox = tmp_path_factory.mktemp("inbox")
    return Nights(Site(tmp_path_factory.mktemp("site"), colours_experiment(colours, inbox)), inbox, paint)


@pytest.fixture(scope="module")
def whole_s(here: Nights) -> float:
    """The first champion is there; seconds that its retraining took."""
    here.arrive()
    return timed(here.retrain)


@pytest.mark.usefixtures("whole_s")
def test_a_retraining_killed_at_each_of_its_steps_takes_each_image_once_and_registers_once(here: Nights) -> None:
    here.arrive()
    command = ("zenml", "pipeline", "run", "retraining_pipeline", "--config", str(here.site.config()))
    for step in STEPS:
        killed = here.site.run(sys.executable, "tests/pipelines/killed_at.py", "returned", step, *command)
        assert killed.returncode == -signal.SIGKILL, f"{step} was never reached:\n{killed.stdout}{killed.stderr}"
    assert list(here.site.steps(here.site.status()["run_id"])) == STEPS, "every step was killed"
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
    both = [here.site.start(*here.command()) for _ in range(2)]
    said = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    kinds = [line.kind for line in here.lines()[before:]]
    assert (kinds.count("started"), kinds.count("decided"), kinds.count("missed")) == (1, 1, 1)
    assert kinds[kinds.index("decided") :] == ["decided", "look"], "it looked again, once"
    assert not state_of(here.lines()).owed
    here.check()
