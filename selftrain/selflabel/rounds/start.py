"""The start of a run: its first teacher and its weights are checked before any training."""

from __future__ import annotations

import math
from pathlib import Path

from selftrain.config import Experiment, Recipe
from selftrain.data.manifest import Manifest, Split
from selftrain.errors import BackboneError, ConfigError, PredictionError
from selftrain.evaluate.statistics.intervals import wilson
from selftrain.ladder import preset_of, resolve
from selftrain.selflabel.rounds.scores import Scores


def refuse_detection(e: Experiment, what: str) -> None:
    """Raise ConfigError for a detector's experiment, where `what` knows classifiers alone."""
    if e.task == "detection":
        raise ConfigError(f"task is 'detection', and {what} knows classifiers alone; `selftrain run` trains detectors")


def check_start(e: Experiment, teacher_backbone: str) -> None:
    """Raise ConfigError for settings that would otherwise stop the run only later; the message names the key.

    `teacher_backbone` names the network of the first teacher, which may be a user's own model. These are refused:

    - a weights file that is missing
    - a teacher without a next rung, if `student.backbone` is not set
    - a student without published weights, if `student.weights` is 'imagenet'
    - a student that cannot continue from its teacher
    """
    if e.teacher.start == "train":
        _check_weights("teacher", e.teacher)
    if e.gate.max_rounds == 0:
        return
    _check_weights("student", e.student)
    try:
        student = e.student.backbone_after(teacher_backbone)
    except BackboneError as error:
        if preset_of(teacher_backbone) is not None:
            raise ConfigError(
                f"the first teacher is {teacher_backbone!r}, which is on no ladder and has no next rung; set "
                "student.backbone to one that can be served cheaply, such as 'efficientnet_b0'"
            ) from error
        raise ConfigError(
            f"teacher.start is {e.teacher.start!r}, a model named {teacher_backbone!r}, which is not on any ladder and "
            "has no next rung; set student.backbone, such as 'efficientnet_b0'"
        ) from error
    if e.student.start == "teacher" and not _same(student, teacher_backbone):
        raise ConfigError(
            f"student.start is 'teacher', but student.backbone is {student!r} and teacher.start {e.teacher.start!r} is "
            f"a {teacher_backbone!r}. A student only continues from a teacher with the same network; set "
            "student.start to 'student' or 'new'"
        )
    if e.student.weights == "imagenet" and resolve(student).application is None:
        raise ConfigError(
            f"student.weights is 'imagenet', but {student!r}, the rung above {teacher_backbone!r}, has no published "
            "weights; set student.backbone to one that has, such as 'efficientnet_b0', or student.weights to null or a "
            "file"
        )


def check_teacher(start: str, scores: Scores, manifest: Manifest) -> None:
    """Raise PredictionError where a first teacher that was not trained here is not clearly better than chance.

    A model that always answers the largest class of validation is not better either. A teacher that is trained here
    is not asked.
    """
    if start == "train" or math.isnan(scores.accuracy):
        return
    class_names = manifest.label_map.names
    classes, counts = len(class_names), manifest.class_counts(Split.VALIDATION)
    share = max(counts) / sum(counts)
    right = round(scores.accuracy * scores.images)
    always_one = 2 * share / (1 + share) / classes  # the macro-F1 of a model that always answers the largest class
    if wilson(right, scores.images).low <= 1 / classes or scores.macro_f1 <= always_one:
        raise PredictionError(
            f"teacher.start is {start!r}, and that model is right on {right} of {scores.images} validation images, not "
            f"clearly better than chance (1 in {classes}): nothing was labelled. Are its classes in the order "
            f"{', '.join(class_names[:5])}{', ...' if classes > 5 else ''}, and was it trained on such images?"
        )


def _same(student: str, teacher: str) -> bool:
    """Whether both names are of the same network on the ladder; a user's own model is not on it."""
    try:
        return resolve(student) == resolve(teacher)
    except BackboneError:
        return False


def _check_weights(role: str, recipe: Recipe) -> None:
    if recipe.weights not in (None, "imagenet") and not Path(recipe.weights).is_file():
        raise ConfigError(
            f"{role}.weights is {recipe.weights!r}, which is not a file; allowed: null, 'imagenet', or a weights file"
        )
