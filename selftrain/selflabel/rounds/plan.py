"""Plans: the next training, from the configuration and the rounds so far."""

from __future__ import annotations

from selftrain.config import Experiment, Student, TaskName, Teacher
from selftrain.config.section import Section
from selftrain.selflabel.rounds.history import History
from selftrain.selflabel.rounds.recipes import baseline_recipe, control_recipe, control_seed, recipe_after


class TeacherPlan(Section):
    """The training of the first teacher, on human labels."""

    task: TaskName
    recipe: Teacher
    image_size: int
    seed: int

    @property
    def backbone(self) -> str:
        """The network's name on the ladder."""
        return self.recipe.backbone


class ControlPlan(Section):
    """The training of a student's network on human labels alone: the control of round `index`."""

    task: TaskName
    index: int
    recipe: Student
    backbone: str
    image_size: int
    seed: int


class BaselinePlan(ControlPlan):
    """A head fitted to human labels alone, on frozen features: the plan's network with its published weights.

    Where `of_teacher` is true, the features are those of the first teacher, a network named `backbone`. The recipe then
    says only which views and weights the images have.
    """

    of_teacher: bool = False


class Plan(ControlPlan):
    """The training of round `index`'s student.

    The model of round `teacher` labels the pool for it. Where `goes_on` is true, it also lends its weights.
    """

    teacher: int

    @property
    def goes_on(self) -> bool:
        """Whether the network begins with its teacher's weights."""
        return self.recipe.start == "teacher"


def teacher_plan(e: Experiment) -> TeacherPlan:
    """The plan of the first teacher's training. It is not used if an existing model is the first teacher."""
    return TeacherPlan(task=e.task, recipe=e.teacher, image_size=e.image_size, seed=e.seed)


def plan(e: Experiment, history: History) -> Plan:
    """The plan of the round after `history`, whose newest kept model teaches.

    Raises InputError for a history without a first teacher.
    """
    teacher = history.teacher
    return round_plan(
        e.student,
        task=e.task,
        index=history.students + 1,
        teacher=teacher.index,
        taught_by=teacher.backbone,
        image_size=e.image_size,
        seed=e.seed,
    )


def round_plan(
    student: Student, *, task: TaskName, index: int, teacher: int, taught_by: str, image_size: int, seed: int
) -> Plan:
    """The plan of round `index`, whose teacher is the model of round `teacher`, a network named `taught_by`.

    The student is one rung larger than its teacher, unless its recipe names a backbone or it continues from its
    teacher. Each round has its own seed, counted up from the run's. Raises BackboneError for a teacher without a next
    rung, if one is needed.
    """
    recipe = recipe_after(student, teacher)
    return Plan(
        task=task,
        index=index,
        teacher=teacher,
        recipe=recipe,
        backbone=recipe.backbone_after(taught_by),
        image_size=image_size,
        seed=seed + index,
    )


def control_plan(e: Experiment, history: History) -> ControlPlan | None:
    """The plan of the supervised control: the best student's network on human labels alone, for as many image-steps.

    None if `e` asks for no control, or if the first teacher is still the best model.
    """
    best = history.best
    if e.control == "none" or best.index == 0:
        return None
    return ControlPlan(
        task=e.task,
        index=best.index,
        recipe=control_recipe(e.student, history),
        backbone=best.backbone,
        image_size=e.image_size,
        seed=control_seed(e.student, history, seed=e.seed),
    )


def baseline_plan(e: Experiment, history: History) -> BaselinePlan:
    """The plan of the baseline: a head fitted to human labels alone, which every run is compared with.

    It has the backbone of the best student, or of the last one if the first teacher is still the best model, with the
    student's `weights` or preset. Without these, or without a student, it has the features of the first teacher.
    """
    of = history.best if history.best.index > 0 else history.latest
    published = e.student.weights is not None or e.student.frozen_preset is not None
    of_teacher = of.index == 0 or not published
    index = 0 if of_teacher else of.index
    return BaselinePlan(
        task=e.task,
        index=index,
        recipe=baseline_recipe(e.student, of_teacher=of_teacher),
        backbone=history.first_teacher.backbone if of_teacher else of.backbone,
        image_size=e.image_size,
        seed=e.seed + index,
        of_teacher=of_teacher,
    )


def same_training(baseline: BaselinePlan, control: ControlPlan | None) -> bool:
    """Whether the `control` is what the `baseline` would be, so that one model is enough for both."""
    shared = ControlPlan.model_fields
    return (
        control is not None
        and not baseline.of_teacher
        and all(getattr(control, name) == getattr(baseline, name) for name in shared)
    )
