"""Budget: the minutes that a configuration is expected to train here, and steps that fill the minutes a user has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selftrain.config import Experiment, Recipe
from selftrain.data.sources.survey import Survey
from selftrain.scaffold.draft import Draft, drawn_splits, training_labels

if TYPE_CHECKING:
    from selftrain.learn.tuning.role_training import Role
    from selftrain.learn.tuning.speed import RoleSpeed

Speeds = Callable[[Experiment, "Role", str], "RoleSpeed"]
"""The speed of a role's training with a backbone."""
LEAST, MOST = 0.25, 4.0
"""Shares of the usual steps: with fewer nothing is learned, and more has never paid."""
_ROUNDED = 20


@dataclass(frozen=True)
class Expected:
    """Minutes of training steps, and of answers and features, which no setting shortens; the ingest comes on top."""

    steps: float
    answers: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.steps + self.answers


@dataclass(frozen=True)
class Ladder:
    """The speeds of the first teacher and of each round's student, by backbone where a role has several."""

    teacher: RoleSpeed
    students: tuple[RoleSpeed, ...]
    backbones: tuple[str, ...]

    @classmethod
    def measured(cls, experiment: Experiment, speeds: Speeds) -> Ladder:
        """The speeds of all networks that a run of `experiment` trains if each student is kept."""
        last = experiment.teacher.backbone
        climbed: list[str] = []
        for _ in range(experiment.gate.max_rounds):
            last = experiment.student.backbone_after(last)
            climbed.append(last)
        found = {name: speeds(experiment, "student", name) for name in dict.fromkeys(climbed)}
        teacher = speeds(experiment, "teacher", experiment.teacher.backbone)
        return cls(teacher, tuple(found[name] for name in climbed), (experiment.teacher.backbone, *climbed))


def expected_minutes(experiment: Experiment, seen: Survey, ladder: Ladder) -> Expected:
    """The minutes of a run of `experiment` on the images of `seen`, with all its rounds and its control.

    The control has the last student's network, for as many image-steps as teacher and students took together.
    """
    teacher, student = experiment.teacher, experiment.student
    steps = _steps_s(teacher, ladder.teacher) + sum(_steps_s(student, speed) for speed in ladder.students)
    if experiment.control == "supervised" and not student.fits_only:
        images = teacher.steps * teacher.batch_size + len(ladder.students) * student.steps * student.batch_size
        steps += images / ladder.students[-1].whole
    return Expected(steps / 60, _answers_s(experiment, seen, ladder) / 60)


def fit_to_budget(draft: Draft, experiment: Experiment, seen: Survey, minutes: float, speeds: Speeds) -> list[str]:
    """Scale the steps in `draft` so that a run takes about `minutes`, and say in a few lines what it will take.

    A head that is fitted takes no steps and stays as it is, whatever the budget: with few labels, steps cost accuracy.
    """
    ladder = Ladder.measured(experiment, speeds)
    expected = expected_minutes(experiment, seen, ladder)
    lines = [_speeds(experiment, ladder)]
    if expected.steps == 0:
        took = f"{_minutes(expected.total)} for the features of all images"
        more = f"the ingest, fitting heads and spreading labels come on top.{_unused(expected.total, minutes)}"
        return [*lines, f"expected: {took}; {more}"]
    wanted = (minutes - expected.answers) / expected.steps
    factor = min(max(wanted, LEAST), MOST)
    for role in _ROLES:
        _scale(draft, experiment, role, factor, minutes)
    answer = (
        f"expected: {_minutes(expected.answers + factor * expected.steps)} with all rounds; the ingest comes on top"
    )
    if wanted < LEAST:
        return [*lines, f"{answer}. That is longer than {minutes:g} minutes: fewer steps would learn nothing. Take "
                "smaller images or backbones, or a machine with a GPU"]  # fmt: skip
    return [*lines, f"{answer}.{_unused(expected.answers + factor * expected.steps, minutes)}"]


_ROLES: tuple[Role, ...] = ("teacher", "student")


def _steps_s(recipe: Recipe, speed: RoleSpeed) -> float:
    """Seconds of a role's steps."""
    if recipe.fits_only:
        return 0.0
    frozen = min(recipe.freeze_steps, recipe.steps) if speed.frozen else 0
    seconds = (recipe.steps - frozen) * recipe.batch_size / speed.whole
    return seconds + (frozen * recipe.batch_size / speed.frozen if frozen else 0.0)


def _answers_s(experiment: Experiment, seen: Survey, ladder: Ladder) -> float:
    """Seconds of answers: the pool by each labeller, validation at each look; fitted heads read each image twice."""
    pool = seen.unlabeled_images
    held_out = (seen.labeled_images - training_labels(seen)) if drawn_splits(seen) > 1 else seen.validation_images or 0
    seconds = 0.0
    trained: list[tuple[Recipe, RoleSpeed]] = [(experiment.teacher, ladder.teacher)]
    trained += [(experiment.student, speed) for speed in ladder.students]
    features_of: set[str] = set()  # kept once they are computed
    for backbone, (recipe, speed) in zip(ladder.backbones, trained, strict=True):
        if not recipe.fits_only:
            seconds += (recipe.steps / recipe.validate_every * held_out + pool) / speed.forward
        elif backbone not in features_of:
            features_of.add(backbone)
            seconds += 2 * (pool + seen.labeled_images) / speed.forward
    return seconds


def _scale(draft: Draft, experiment: Experiment, role: Role, factor: float, minutes: float) -> None:
    recipe: Recipe = experiment.teacher if role == "teacher" else experiment.student
    if recipe.fits_only:
        return
    steps = max(round(recipe.steps * factor / _ROUNDED) * _ROUNDED, _ROUNDED)
    draft.set(f"{role}.steps", steps, f"{factor:.2g} times the usual {recipe.steps}, for {minutes:g} minutes")
    draft.set(f"{role}.validate_every", max(10, steps // 8), draft.reasons[f"{role}.validate_every"])
    if recipe.freeze_steps:
        frozen = round(steps * recipe.freeze_steps / recipe.steps)
        draft.set(f"{role}.freeze_steps", frozen, draft.reasons[f"{role}.freeze_steps"])


def _speeds(experiment: Experiment, ladder: Ladder) -> str:
    parts = {}
    for backbone, speed in zip(ladder.backbones, (ladder.teacher, *ladder.students), strict=True):
        training = f"trains on {speed.whole:.0f} images/s and " if speed.whole else ""
        frozen = f"({speed.frozen:.0f} while its backbone is frozen) and " if speed.frozen else ""
        training = training.removesuffix("and ") + frozen if frozen else training
        parts[backbone] = f"{backbone} {training}labels {speed.forward:.0f} images/s"
    return f"measured here at {experiment.image_size} px: {'; '.join(parts.values())}"


def _minutes(value: float) -> str:
    return "less than a minute" if value < 1 else f"about {value:.0f} minute{'' if round(value) == 1 else 's'}"


def _unused(expected: float, minutes: float) -> str:
    """What becomes of a budget that is much larger than what the run takes."""
    if expected > 0.75 * minutes:
        return ""
    return (
        f" The rest of {minutes:g} minutes stays unused: longer training has not paid in our measurements; add labels "
        "instead"
    )
