"""Plans: which network the next training builds, from which teacher, and with which seed."""

from __future__ import annotations

from typing import Literal

import pytest

from selftrain.config import Experiment, Student, Teacher
from selftrain.errors import BackboneError, InputError
from selftrain.ladder import next_rung
from selftrain.selflabel.rounds.history import History, Round
from selftrain.selflabel.rounds.plan import (
    TeacherPlan,
    baseline_plan,
    control_plan,
    plan,
    round_plan,
    same_training,
    teacher_plan,
)

SEED = 7
FIRST = "mobilenet_v2_035"
SECOND = next_rung(FIRST)
THIRD = next_rung(SECOND)


def experiment(
    control: Literal["none", "supervised"] = "none", *, weights: str | None = None, **student: object
) -> Experiment:
    return Experiment(
        seed=SEED,
        image_size=24,
        control=control,
        teacher=Teacher(backbone=FIRST, weights=weights),
        student=Student.model_validate({"steps": 100, "batch_size": 10, "weights": weights, **student}),
    )


def trained(index: int, metric: float, backbone: str) -> Round:
    return Round(
        index=index,
        backbone=backbone,
        labeled=9,
        validation_accuracy=metric,
        validation_metric=metric,
        seconds=1.0,
        image_steps=4000,
        model_digest=str(index),
    )


def history(*metrics: float) -> History:
    """The first teacher and students on the next rungs; a lower metric than the teacher's is not kept."""
    rounds = History()
    for index, (metric, backbone) in enumerate(zip(metrics, (FIRST, SECOND, THIRD), strict=False)):
        rounds = rounds.with_round(trained(index, metric, backbone))
    return rounds


def test_the_first_teacher_has_the_recipe_and_the_seed_of_the_experiment() -> None:
    e = experiment()
    first = teacher_plan(e)
    assert (first.task, first.recipe, first.backbone) == ("classification", e.teacher, FIRST)
    assert (first.image_size, first.seed) == (24, SEED)


def test_the_first_student_is_one_rung_larger_than_the_first_teacher() -> None:
    coming = plan(experiment(), history(0.5))
    assert (coming.index, coming.teacher, coming.backbone) == (1, 0, SECOND)
    assert (coming.image_size, coming.goes_on) == (24, False)


def test_a_kept_student_teaches_the_next_one() -> None:
    coming = plan(experiment(), history(0.5, 0.8))
    assert (coming.index, coming.teacher, coming.backbone) == (2, 1, THIRD)


def test_after_a_discarded_student_its_teacher_teaches_again() -> None:
    coming = plan(experiment(), history(0.8, 0.5))
    assert (coming.index, coming.teacher, coming.backbone) == (2, 0, SECOND)


def test_a_backbone_that_is_set_is_every_students_backbone() -> None:
    e = experiment(backbone="wide_resnet_16_1")
    assert [plan(e, each).backbone for each in (history(0.5), history(0.5, 0.8))] == ["wide_resnet_16_1"] * 2


def test_a_student_that_starts_from_its_teacher_has_its_backbone_and_its_weights() -> None:
    coming = plan(experiment(start="teacher"), history(0.5))
    assert (coming.recipe.start, coming.goes_on, coming.backbone) == ("teacher", True, FIRST)


def test_students_that_start_from_each_other_begin_with_a_new_one() -> None:
    e = experiment(start="student")
    first, second = plan(e, history(0.5)), plan(e, history(0.5, 0.8))
    assert (first.recipe.start, first.goes_on, first.backbone) == ("new", False, SECOND)
    assert (second.recipe.start, second.goes_on, second.backbone) == ("teacher", True, SECOND)


def test_the_student_after_a_discarded_first_one_is_new_as_well() -> None:
    coming = plan(experiment(start="student"), history(0.8, 0.5))
    assert (coming.index, coming.recipe.start, coming.goes_on) == (2, "new", False)


def test_each_round_counts_the_seed_up_by_one() -> None:
    e = experiment()
    seeds = [plan(e, each).seed for each in (history(0.5), history(0.5, 0.8), history(0.5, 0.8, 0.7))]
    assert [teacher_plan(e).seed, *seeds] == [SEED, SEED + 1, SEED + 2, SEED + 3]


def test_nothing_is_planned_without_a_first_teacher() -> None:
    with pytest.raises(InputError, match="train the teacher first"):
        plan(experiment(), History())


def test_a_network_of_the_users_own_has_no_next_rung() -> None:
    with pytest.raises(BackboneError):
        round_plan(
            Student(), task="classification", index=1, teacher=0, taught_by="resnet_of_my_own", image_size=24, seed=SEED
        )


def test_no_control_is_planned_unless_the_experiment_asks_for_one() -> None:
    assert control_plan(experiment("none"), history(0.5, 0.8)) is None


@pytest.mark.parametrize("rounds", [history(0.5), history(0.8, 0.5)], ids=["no student", "discarded student"])
def test_no_control_is_planned_where_the_first_teacher_is_the_best_model(rounds: History) -> None:
    assert control_plan(experiment("supervised"), rounds) is None


def test_the_control_is_the_best_students_network_on_labels_alone_for_as_many_image_steps() -> None:
    control = control_plan(experiment("supervised", finish_steps=0), history(0.5, 0.8, 0.7))
    assert control is not None
    assert (control.index, control.backbone, control.recipe.start) == (1, SECOND, "new")
    assert control.seed == plan(experiment(), history(0.5)).seed
    assert control.recipe.min_human_share == 1.0
    assert control.recipe.steps * control.recipe.batch_size == 2 * 4000


@pytest.mark.parametrize("start", ["new", "teacher", "student"])
def test_a_plan_survives_json_as_it_reaches_a_step(start: str) -> None:
    e = experiment("supervised", start=start, freeze_steps=20, weights="imagenet")
    rounds = history(0.5, 0.8)
    control = control_plan(e, rounds)
    assert control is not None
    for each in (plan(e, history(0.5)), plan(e, rounds), control):
        assert type(each).model_validate_json(each.model_dump_json()) == each
        assert type(each).model_validate(each.model_dump(exclude_unset=True)) == each


def test_a_teachers_plan_survives_json_as_it_reaches_a_step() -> None:
    first = teacher_plan(experiment())
    assert TeacherPlan.model_validate_json(first.model_dump_json()) == first
    assert TeacherPlan.model_validate(first.model_dump(exclude_unset=True)) == first


def test_the_baseline_is_fitted_on_the_best_students_backbone_where_it_has_weights() -> None:
    coming = baseline_plan(experiment(weights="weights.h5"), history(0.5, 0.8, 0.7))
    assert (coming.backbone, coming.of_teacher, coming.index) == (SECOND, False, 1)
    assert (coming.recipe.head, coming.recipe.steps, coming.recipe.weights) == ("fitted", 0, "weights.h5")


def test_the_baseline_is_fitted_on_the_last_students_backbone_where_no_student_was_kept() -> None:
    coming = baseline_plan(experiment(weights="weights.h5"), history(0.9, 0.8))
    assert (coming.backbone, coming.of_teacher) == (SECOND, False)


def test_the_baseline_has_the_first_teachers_features_without_weights_or_without_a_student() -> None:
    for e, rounds in ((experiment(), history(0.5, 0.8)), (experiment(weights="weights.h5"), history(0.5))):
        coming = baseline_plan(e, rounds)
        assert (coming.backbone, coming.of_teacher, coming.index) == (FIRST, True, 0)
        assert coming.recipe.weights is None


def test_the_baseline_of_a_student_on_a_preset_of_keras_hub_has_its_features() -> None:
    e = experiment().model_copy(update={"student": Student(backbone="keras_hub:dinov2_small", head="fitted", steps=0)})
    coming = baseline_plan(e, history(0.5, 0.8))
    assert (coming.of_teacher, coming.recipe) == (False, e.student)


def test_the_baseline_keeps_the_views_and_class_weights_of_the_student_and_none_of_its_training() -> None:
    e = experiment(weights="weights.h5", augmentation="none", class_weights="balanced", method="fixmatch")
    recipe = baseline_plan(e, history(0.5, 0.8)).recipe
    assert (recipe.augmentation, recipe.class_weights) == ("none", "balanced")
    assert not recipe.in_training


def test_a_control_that_only_fits_a_head_is_the_baseline_already() -> None:
    fits = Student.model_validate({"weights": "weights.h5", "head": "fitted", "steps": 0})
    for student, same in ((fits, True), (Student(weights="weights.h5", steps=100, batch_size=10), False)):
        e = experiment("supervised").model_copy(update={"student": student})
        rounds = history(0.5, 0.8)
        assert same_training(baseline_plan(e, rounds), control_plan(e, rounds)) is same
    assert not same_training(baseline_plan(experiment(), history(0.5, 0.8)), None)
