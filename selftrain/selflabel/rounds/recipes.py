"""Recipes of a round: how a student is trained after its teacher, and how the control is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

from selftrain.config import Consistency, Student
from selftrain.learn.training.defaults import finish, smoothing
from selftrain.selflabel.rounds.history import History, Round

_UNSET_RATE: float = Student.model_fields["unfreeze_rate"].default
"""The `unfreeze_rate` of a recipe that freezes nothing."""


def recipe_after(recipe: Student, teacher: int) -> Student:
    """The recipe of a student whose teacher is the model of round `teacher`; its `start` is 'new' or 'teacher'.

    A student that continues from its teacher has no new top to train first. So it freezes nothing and begins at the
    rate that would follow the frozen steps. A recipe that trains only the top in all its steps stays as it is.

    >>> recipe = Student(start="student", weights="imagenet", steps=100, freeze_steps=20, learning_rate=1e-3)
    >>> recipe_after(recipe, 0).start, recipe_after(recipe, 0).freeze_steps
    ('new', 20)
    >>> recipe_after(recipe, 1).start, recipe_after(recipe, 1).freeze_steps, recipe_after(recipe, 1).learning_rate
    ('teacher', 0, 0.0001)
    """
    if recipe.start == "new":
        return recipe
    if recipe.start == "student" and teacher == 0:
        return recipe.model_copy(update={"start": "new"})
    changes: dict[str, object] = {"start": "teacher"}
    if 0 < recipe.freeze_steps < recipe.steps:
        changes |= {
            "freeze_steps": 0,
            "learning_rate": recipe.learning_rate * recipe.unfreeze_rate,
            "unfreeze_rate": _UNSET_RATE,
        }
    return recipe.model_copy(update=changes)


def control_recipe(recipe: Student, history: History) -> Student:
    """The recipe that spends the image-steps of the best model and its kept teachers on human labels alone.

    The frozen steps keep their share of all steps. If students continue from an earlier model's weights, the share is
    taken of the steps up to the end of that model's training. It is then at least as many steps as the recipe names.

    The control is validated about as often as the student was, because the best of many more validations would be
    better by luck. A student that learns in training sees its labelled images weakly augmented, and so does its
    control. Where the student only fits its head, the control fits it to the labels.
    """
    if recipe.fits_only:
        return recipe
    kept = [each for each in history.rounds if each.kept]  # the newest of them is the best
    steps = _steps(recipe, kept)
    frozen = _frozen(recipe, kept, steps)
    looks = math.ceil((recipe.steps + finish(recipe)) / recipe.validate_every)
    changes = {
        "steps": steps,
        "finish_steps": finish(recipe),
        "freeze_steps": frozen,
        "unfreeze_rate": recipe.unfreeze_rate if frozen else _UNSET_RATE,
        "validate_every": math.ceil((steps + finish(recipe)) / looks),
        "min_human_share": 1.0,
        "start": "new",
    }
    return (_on_labels(recipe) if recipe.in_training else recipe).model_copy(update=changes)


def baseline_recipe(recipe: Student, *, of_teacher: bool) -> Student:
    """The recipe of a head that is only fitted, with the weights, views and class weights of a student's `recipe`.

    A baseline `of_teacher` reads that model's features, so it names no weights, and the views and class weights count
    alone.
    """
    if recipe.fits_only and not of_teacher:
        return recipe
    same = {"augmentation": recipe.augmentation, "class_weights": recipe.class_weights}
    if of_teacher:
        return Student.model_validate(same)
    fitted = {"head": "fitted", "steps": 0, "strength": Student.model_fields["strength"].default}
    return Student.model_validate(same | fitted | {"weights": recipe.weights, "dropout": recipe.dropout})


def _steps(recipe: Student, models: Sequence[Round]) -> int:
    """How many steps of `recipe`, before its finish, spend as many image-steps as `models` did."""
    return max(1, round(sum(each.image_steps for each in models) / recipe.batch_size) - finish(recipe))


def _frozen(recipe: Student, kept: Sequence[Round], steps: int) -> int:
    """How many of the control's `steps` train only its new top; `kept` are the models whose work it repeats."""
    share = recipe.freeze_steps / recipe.steps
    match recipe.start:
        case "new":
            return round(share * steps)
        case "teacher":
            before = kept[:1]
        case "student":
            before = kept[:2]
        case _:
            assert_never(recipe.start)
    if share == 0 or share >= 1:
        return round(share * steps)
    return min(steps - 1, max(recipe.freeze_steps, round(share * _steps(recipe, before))))


def control_seed(recipe: Student, history: History, *, seed: int) -> int:
    """The seed that the best model's network began with, in a run with `seed`.

    If students continue from the first teacher, it is the teacher's seed. If they continue from the first kept student,
    it is that student's seed. Otherwise it is the best model's own.
    """
    match recipe.start:
        case "teacher":
            return seed
        case "student":
            return seed + min(each.index for each in history.rounds if each.kept and each.index > 0)
        case "new":
            return seed + history.best.index
        case _:
            assert_never(recipe.start)


def _on_labels(recipe: Student) -> Student:
    """The `recipe` of a student that learns in training, changed to train on labelled images alone."""
    views = {"strength": "weak", "randaugment_operations": None, "randaugment_magnitude": None}
    alone = {"method": "noisy_student", "consistency": Consistency(), "label_smoothing": smoothing(recipe)}
    return recipe.model_copy(update={**alone, **views})
