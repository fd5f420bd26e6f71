"""The supervised control's recipe: its student's, on human labels alone, looked at and changed alike."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from selftrain.config import Consistency, Method, Student
from selftrain.learn.training.defaults import finish, smoothing
from selftrain.selflabel.rounds.history import History, Round
from selftrain.selflabel.rounds.recipes import control_recipe, control_seed, recipe_after

MU, BATCH, STEPS = 3, 8, 300

Start = Literal["new", "teacher", "student"]


def trained(index: int, metric: float, image_steps: int) -> Round:
    return Round(
        index=index,
        backbone="b",
        labeled=9,
        validation_accuracy=metric,
        validation_metric=metric,
        seconds=1.0,
        image_steps=image_steps,
        model_digest=str(index),
    )


def control_of(student: Student, *, image_steps: int) -> Student:
    """The control of a student that took `image_steps`, after a teacher that took 800."""
    history = History().with_round(trained(0, 0.5, 800)).with_round(trained(1, 0.9, image_steps))
    return control_recipe(student, history)


def looks(recipe: Student) -> int:
    from selftrain.learn.training.schedule import looks as of_phase
    from selftrain.learn.training.schedule import phases

    return sum(len(of_phase(phase, every=recipe.validate_every)) for phase in phases(recipe))


@pytest.mark.keras
@pytest.mark.parametrize(
    ("changes", "images_a_step"),
    [
        ({"validate_every": 40}, BATCH),
        ({"validate_every": 37}, BATCH * 30),
        ({"validate_every": 37, "method": "fixmatch"}, BATCH * (1 + 2 * MU)),
        ({"validate_every": 37, "finish_steps": 90}, BATCH * 5),
        (
            {"validate_every": 45, "backbone": "efficientnet_b0", "weights": "imagenet", "freeze_steps": 100},
            BATCH * 5,
        ),
        ({"validate_every": 400}, BATCH * 5),
    ],
)
def test_the_control_looks_at_validation_as_often_as_the_student_did(
    changes: dict[str, Any], images_a_step: int
) -> None:
    student = Student(steps=STEPS, batch_size=BATCH, **changes)
    control = control_of(student, image_steps=images_a_step * (STEPS + finish(student)))
    assert control.steps > STEPS
    assert looks(control) == looks(student)


def test_the_control_of_a_student_in_training_sees_labelled_images_weakly_changed_as_it_did() -> None:
    student = Student(method="fixmatch", consistency=Consistency(threshold=0.8), randaugment_magnitude=5.0)
    control = control_of(student, image_steps=9600)
    assert control.strength == "weak"
    assert smoothing(control) == smoothing(student) == 0.0
    assert finish(control) == finish(student) == 0
    assert Student.model_validate(control.model_dump(exclude_unset=True)) == control  # as it reaches a step


def test_the_control_of_a_student_of_pseudo_labels_sees_them_strongly_changed_as_it_did() -> None:
    assert control_of(Student(), image_steps=9600).strength == "strong"


def test_the_control_of_a_student_that_starts_from_its_teacher_starts_where_the_teacher_did() -> None:
    student = Student(start="teacher", backbone="efficientnet_b0", weights="imagenet")
    control = control_of(student, image_steps=9600)
    assert (control.start, control.weights) == ("new", "imagenet")
    assert (control.steps + finish(control)) * control.batch_size == 800 + 9600
    history = History().with_round(trained(0, 0.5, 800)).with_round(trained(1, 0.9, 800))
    assert control_seed(student, history, seed=7) == 7
    assert control_seed(Student(), history, seed=7) == 8


PRETRAINED = Student(
    start="student", backbone="efficientnet_b0", weights="imagenet", steps=100, freeze_steps=20, learning_rate=1e-3
)


def test_a_student_after_a_student_trains_nothing_frozen_unless_all_of_it_was() -> None:
    assert recipe_after(PRETRAINED, 0) == PRETRAINED.model_copy(update={"start": "new"})
    going_on = recipe_after(PRETRAINED, 2)
    assert (going_on.start, going_on.freeze_steps) == ("teacher", 0)
    assert going_on.learning_rate == pytest.approx(PRETRAINED.learning_rate * PRETRAINED.unfreeze_rate)
    assert Student.model_validate(going_on.model_dump(exclude_unset=True)) == going_on  # as it reaches a step
    slower = recipe_after(PRETRAINED.model_copy(update={"unfreeze_rate": 0.5}), 2)
    assert slower.learning_rate == pytest.approx(PRETRAINED.learning_rate * 0.5)
    assert Student.model_validate(slower.model_dump(exclude_unset=True)) == slower
    frozen = PRETRAINED.model_copy(update={"freeze_steps": 100})
    assert recipe_after(frozen, 1) == frozen.model_copy(update={"start": "teacher"})
    from_scratch = Student(start="student", backbone="efficientnet_b0")
    assert recipe_after(from_scratch, 1) == from_scratch.model_copy(update={"start": "teacher"})
    from_teacher = PRETRAINED.model_copy(update={"start": "teacher"})
    assert recipe_after(from_teacher, 0) == recipe_after(from_teacher, 3) == going_on
    new = PRETRAINED.model_copy(update={"start": "new"})
    assert recipe_after(new, 0) == recipe_after(new, 3) == new


def test_the_control_of_students_that_go_on_is_frozen_as_long_as_what_trained_a_new_top() -> None:
    spent = 16 * (100 + finish(PRETRAINED))
    history = History().with_round(trained(0, 0.5, 1600)).with_round(trained(1, 0.1, 9600))  # not kept: the next is new
    for index, metric in ((2, 0.6), (3, 0.7), (4, 0.8)):
        history = history.with_round(trained(index, metric, spent))
    control = control_recipe(PRETRAINED, history)
    assert (control.steps + finish(control)) * control.batch_size == 1600 + 3 * spent
    assert control.freeze_steps == (1600 / 16 + 100) * 0.2
    assert (control.start, control.learning_rate) == ("new", PRETRAINED.learning_rate)
    assert control_seed(PRETRAINED, history, seed=7) == 7 + 2
    new = PRETRAINED.model_copy(update={"start": "new"})
    assert control_recipe(new, history).freeze_steps == round(control.steps * 0.2)


@pytest.mark.parametrize(("teacher", "frozen"), [(0, 20), (16, 20), (1600, 20), (16 * 305, 60)])
@pytest.mark.parametrize("method", ["noisy_student", "fixmatch"])
def test_the_controls_new_top_is_trained_frozen_first_however_little_the_teacher_took(
    teacher: int, frozen: int, method: Method
) -> None:
    student = PRETRAINED.model_copy(update={"start": "teacher", "method": method, "finish_steps": 5})
    history = History().with_round(trained(0, 0.5, teacher)).with_round(trained(1, 0.9, 9600))
    assert control_recipe(student, history).freeze_steps == frozen
    tiny = History().with_round(trained(0, 0.5, 0)).with_round(trained(1, 0.9, 16 * 15))
    assert control_recipe(student, tiny).freeze_steps == control_recipe(student, tiny).steps - 1 == 9


@pytest.mark.parametrize("start", ["new", "teacher", "student"])
def test_a_control_is_frozen_throughout_if_its_student_was_and_never_if_it_was_not(start: Start) -> None:
    history = History().with_round(trained(0, 0.5, 1600)).with_round(trained(1, 0.9, 1600))
    of_the_top = control_recipe(PRETRAINED.model_copy(update={"start": start, "freeze_steps": 100}), history)
    assert of_the_top.freeze_steps == of_the_top.steps
    assert control_recipe(Student(start=start), history).freeze_steps == 0
