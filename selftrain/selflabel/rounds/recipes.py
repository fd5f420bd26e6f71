"""Recipes of a round: the training of a student after its teacher, and of the control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

from selftrain.config import Consistency, Student
from selftrain.learn.training.defaults import finish, smoothing
from selftrain.selflabel.rounds.history import History, Round

_UNSET_RATE: float = Student.model_fields["unfreeze_rate"].default  # where nothing is frozen


def recipe_after(recipe: Student, teacher: int) -> Student:
    """The recipe of a student whose teacher is the model of round `teacher`: its `start` is 'new' or 'teacher'.

    One that goes on from its teacher has no new top to train first: nothing is frozen, at the rate that comes after it
    - unless all steps are of the top alone.

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
    """The recipe that spends on human labels alone what the best model and its kept teachers spent, in image-steps.

    What the recipe trains frozen stays the same share of it; where students go on from one another, of what was spent
    until the network that went on had been trained, and no less than the recipe names. Validation is looked at about as
    often as the student's was: the best of many more looks would be better by luck. The labelled images of a student
    that learnt in training were weakly changed, and so are the control's.
    """
    kept = [each for each in history.rounds if each.kept]  # the best is the newest of them
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


def _steps(recipe: Student, models: Sequence[Round]) -> int:
    """How many steps of `recipe`, before its finish, spend what `models` spent."""
    return max(1, round(sum(each.image_steps for each in models) / recipe.batch_size) - finish(recipe))


def _frozen(recipe: Student, kept: Sequence[Round], steps: int) -> int:
    """How many of the control's `steps` train its new top alone; `kept` are the models that it is compared with."""
    share = recipe.freeze_steps / recipe.steps
    match recipe.start:
        case "new":
            return round(share * steps)
        case "teacher":
            anew = kept[:1]
        case "student":
            anew = kept[:2]
        case _:
            assert_never(recipe.start)
    if share == 0 or share >= 1:
        return round(share * steps)
    return min(steps - 1, max(recipe.freeze_steps, round(share * _steps(recipe, anew))))


def control_seed(recipe: Student, history: History, *, seed: int) -> int:
    """The seed that the best model's network began with in a run of `seed`.

    That of the first teacher where students go on from it, of the first kept student where they go on from that one,
    else the best model's own.
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
    """What is left of the recipe of a student that learns in training, without the unlabelled images."""
    views = {"strength": "weak", "randaugment_operations": None, "randaugment_magnitude": None}
    alone = {"method": "noisy_student", "consistency": Consistency(), "label_smoothing": smoothing(recipe)}
    return recipe.model_copy(update={**alone, **views})
