"""The start of a retraining: the champion teaches a student that does not outgrow the configuration."""

from __future__ import annotations

from selftrain.config import CocoSource, Experiment, Student, Teacher
from selftrain.retraining.start import from_champion


def test_the_champion_teaches_and_the_student_is_the_one_of_the_first_run() -> None:
    e = Experiment(teacher=Teacher(backbone="efficientnet_b0"))
    again = from_champion(e, 3)
    assert (again.teacher.start, again.retrain.from_version) == ("champion", 3)
    assert again.student.backbone == e.student.backbone_after("efficientnet_b0") == "efficientnet_b1"
    assert from_champion(again, 3) == again


def test_a_detectors_champion_teaches_with_the_settings_as_they_are() -> None:
    e = Experiment(task="detection", source=CocoSource(annotations="labels.json", images="photos"))
    again = from_champion(e, 3)
    assert (again.teacher.start, again.retrain.from_version) == ("champion", 3)
    assert (again.student, again.detection) == (e.student, e.detection)
    assert Experiment.model_validate(again.model_dump(exclude_unset=True)) == again


def test_what_the_configuration_names_itself_stays() -> None:
    named = Experiment(teacher=Teacher(start="mine.keras"), student=Student(backbone="efficientnet_b3"))
    assert from_champion(named, 3) == named
    assert (
        from_champion(Experiment(student=Student(backbone="efficientnet_b3")), 3).student.backbone == "efficientnet_b3"
    )


def test_a_student_that_continues_from_its_teacher_starts_new_from_a_champion_of_another_size() -> None:
    e = Experiment(student=Student(start="teacher"))
    assert from_champion(e, 3).student.start == "student"


def test_a_step_gets_what_was_changed_as_if_it_had_been_set() -> None:
    again = from_champion(Experiment(), 3)
    assert Experiment.model_validate(again.model_dump(exclude_unset=True)) == again
