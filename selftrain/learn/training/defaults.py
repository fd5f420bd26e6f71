"""Defaults: settings that a recipe leaves to its role and method."""

from __future__ import annotations

from selftrain.config import Recipe, Student

_SMOOTHING = 0.1
_FINISH = 20  # a student's steps per step of its finish


def smoothing(recipe: Recipe) -> float:
    """How much of a hard target is shared among all classes.

    It is 0 for in-training methods, whose model must become sure during training. Smoothing would prevent that.

    >>> smoothing(Student()), smoothing(Student(method="fixmatch")), smoothing(Student(label_smoothing=0.2))
    (0.1, 0.0, 0.2)
    """
    if recipe.label_smoothing is not None:
        return recipe.label_smoothing
    return 0.0 if recipe.in_training else _SMOOTHING


def finish(recipe: Recipe) -> int:
    """The steps on human labels alone that follow `steps`: a twentieth for a student of pseudo-labels.

    >>> finish(Student(steps=200)), finish(Student(steps=200, method="fixmatch")), finish(Student(finish_steps=7))
    (10, 0, 7)
    """
    if recipe.finish_steps is not None:
        return recipe.finish_steps
    of_pseudo_labels = isinstance(recipe, Student) and not recipe.in_training
    return recipe.steps // _FINISH if of_pseudo_labels else 0
