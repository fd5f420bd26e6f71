"""The budget: steps that fit a user's minutes, and what is said where they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.config import Experiment, FolderSource
from selftrain.data.sources.survey import Survey
from selftrain.learn.tuning.role_training import Role
from selftrain.learn.tuning.speed import RoleSpeed, role_speed
from selftrain.scaffold.budget import LEAST, MOST, Ladder, expected_minutes
from selftrain.scaffold.choices import choose
from selftrain.scaffold.draft import Wishes

SOURCE = FolderSource(labeled="photos/labeled", unlabeled="photos/unlabeled")
SEEN = Survey(
    labeled=SOURCE.labeled,
    unlabeled=SOURCE.unlabeled or "",
    classes={"cat": 100, "dog": 100},
    unlabeled_images=3600,
    validation_images=None,
    test_images=None,
    ignored_files=0,
    formats={"JPEG": 200},
    sampled=200,
    unreadable=0,
    shortest_side=160,
    median_side=160,
    longest_side=320,
    grey=False,
)
# Images per second of the three rungs that two rounds climb.
SPEEDS = {
    "efficientnet_b0_050": RoleSpeed(forward=1000, whole=100),
    "efficientnet_b0_070": RoleSpeed(forward=500, whole=50),
    "efficientnet_b0": RoleSpeed(forward=250, whole=25),
}


def said(_: Experiment, role: Role, backbone: str) -> RoleSpeed:
    return SPEEDS[backbone]


def taking(minutes: float) -> tuple[Experiment, list[str]]:
    made = choose(SOURCE, SEEN, Wishes(minutes=minutes), speeds=said)
    return made.experiment, list(made.notes)


def test_each_round_is_expected_at_the_speed_of_its_own_rung() -> None:
    experiment = choose(SOURCE, SEEN, Wishes()).experiment
    teacher, student = experiment.teacher, experiment.student
    expected = expected_minutes(experiment, SEEN, Ladder.measured(experiment, said))
    teaching = teacher.steps * teacher.batch_size / 100
    learning = student.steps * student.batch_size
    assert expected.steps == pytest.approx((teaching + learning / 50 + learning / 25) / 60)
    looks = 8 * 80 / 1000 + 3.6 + 8 * 80 * (1 / 500 + 1 / 250) + 3600 * (1 / 500 + 1 / 250)
    assert expected.answers == pytest.approx(looks / 60, rel=0.05)


def test_a_control_takes_the_image_steps_of_teacher_and_students_with_the_last_network() -> None:
    experiment = choose(SOURCE, SEEN, Wishes()).experiment
    ladder = Ladder.measured(experiment, said)
    alone = expected_minutes(experiment, SEEN, ladder).steps
    both = expected_minutes(experiment.model_copy(update={"control": "supervised"}), SEEN, ladder).steps
    teacher, student = experiment.teacher, experiment.student
    images = teacher.steps * teacher.batch_size + 2 * student.steps * student.batch_size
    assert both - alone == pytest.approx(images / 25 / 60)


@given(minutes=st.floats(1, 10_000))
def test_the_steps_fill_the_minutes_within_the_shares_that_make_sense(minutes: float) -> None:
    usual = choose(SOURCE, SEEN, Wishes()).experiment
    before_all = expected_minutes(usual, SEEN, Ladder.measured(usual, said))
    experiment, notes = taking(minutes)
    expected = expected_minutes(experiment, SEEN, Ladder.measured(experiment, said)).total
    for chosen, before in ((experiment.teacher, usual.teacher), (experiment.student, usual.student)):
        assert LEAST * before.steps - 20 <= chosen.steps <= MOST * before.steps + 20
        assert 6 <= chosen.steps / chosen.validate_every <= 10
    least, most = (before_all.answers + share * before_all.steps for share in (LEAST, MOST))
    assert expected == pytest.approx(min(max(minutes, least), most), rel=0.1)
    assert any(note.startswith("expected: about") for note in notes)


def test_too_few_minutes_are_told_and_too_many_stay_unused() -> None:
    _, short = taking(1)
    assert "longer than 1 minutes" in short[1]
    assert "fewer steps would learn nothing" in short[1]
    _, long = taking(10_000)
    assert "The rest of 10000 minutes stays unused" in long[1]
    _, fitting = taking(60)
    assert "stays unused" not in fitting[1]


def test_heads_that_are_fitted_stay_fitted_whatever_the_budget(tmp_path: Path) -> None:
    weights = tmp_path / "a.weights.h5"
    weights.write_bytes(b"not opened here")
    wishes: dict[str, Any] = {"teacher_backbone": "efficientnet_b0_050", "teacher_weights": str(weights)}
    free, bound = Wishes(**wishes), Wishes(**wishes, minutes=600)
    made = choose(SOURCE, SEEN, bound, speeds=lambda *_: RoleSpeed(forward=100))
    assert made.experiment == choose(SOURCE, SEEN, free).experiment
    # Teacher and student have one network, whose features are kept: 2 views of 3,800 images at 100 a second.
    assert "expected: about 1 minute for the features of all images" in made.notes[1]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_speed_is_measured_by_steps_of_the_role_itself() -> None:
    experiment = Experiment.model_validate(
        {"image_size": 32, "teacher": {"backbone": "wide_resnet_16_1", "steps": 10, "batch_size": 16}}
    )
    speed = role_speed(experiment, "teacher", "wide_resnet_16_1", class_names=("a", "b"))
    assert speed.forward > 0
    assert speed.whole > 0
    assert speed.frozen == 0, "no step has a frozen backbone"
