"""A detector, improved by images without labels, beside a control that had the same steps and the labels alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import keras
import numpy as np

from selftrain.config import DetectionMethod
from selftrain.learn.detection.detect import Choice, Detector
from selftrain.learn.detection.keeping import Keeper
from selftrain.learn.detection.matching import Matches, matched
from selftrain.learn.detection.mirrored import MirroredDetector
from selftrain.learn.detection.network import DetectorShape, build_detector
from selftrain.learn.detection.scenes import Scenes, views_of
from selftrain.learn.detection.training import DetectorRecipe, train_detector
from selftrain.learn.detection.unbiased_teacher import UnbiasedTeacher, Watch, learn_from_unlabelled
from selftrain.learn.networks.copies import copied
from selftrain.progress import Progress, noting, silent
from selftrain.selflabel.detection.choosing import (
    Alarm,
    BurnIn,
    BurntIn,
    Readiness,
    alarms,
    best_of,
    burnt_in_enough,
    readiness,
)
from selftrain.selflabel.detection.distilling import LOWEST_SCORE, distil, learn_from_teacher

_COUNTED_VIEWS = 128  # to know how many objects people marked in a view


@dataclass(frozen=True)
class DetectionPlan:
    """How a detector is improved.

    - `teacher`: the training on labels, the burn-in. It is repeated, at most `more_burn_ins` times, until the teacher
      reaches `needed` on validation and a repetition gains less than `needed.gain` there.
    - `student`: the training that follows it; the control takes as many steps, with as many views.
    - `method`: how the pool teaches; `distilling.distil` labels it every `relabel_every` steps.
    - `new`: the student's network, if the method is noisy_student; its control is one too.
    - `weight`, `ramp_up`, `ignore_from`, `update_every`, `box_regression`: see `UnbiasedTeacher`.
    """

    teacher: DetectorRecipe = field(default_factory=DetectorRecipe)
    student: DetectorRecipe = field(default_factory=DetectorRecipe)
    needed: BurnIn = field(default_factory=BurnIn)
    more_burn_ins: int = 4
    method: DetectionMethod = "data_distillation"
    relabel_every: int = 500
    new: DetectorShape | None = None
    weight: float = 1.0
    ramp_up: float = 0.1
    ignore_from: float = 0.25
    update_every: int = 1
    box_regression: bool = False
    control: bool = True


@dataclass(frozen=True)
class Improved:
    """The detectors of a plan, and how they came about.

    `final` is `student` if it is at least as good as `teacher` on validation, else `teacher`; `thresholds` are its own.
    `student` is None where the teacher was not ready to teach. `average_precision` is each one's AP on validation, at
    an overlap of .5.
    """

    teacher: keras.Model
    student: keras.Model | None
    control: keras.Model | None
    ready: Readiness
    alarms: tuple[Alarm, ...]
    average_precision: dict[str, float]
    burn_ins: int
    thresholds: tuple[float, ...] | None

    @property
    def helped(self) -> bool:
        """Whether the student is the one that is kept."""
        own = self.average_precision
        return self.student is not None and own["student"] >= own["teacher"]

    @property
    def final(self) -> keras.Model:
        """The best detector by validation."""
        return self.student if self.student is not None and self.helped else self.teacher


@dataclass(frozen=True, eq=False)
class LabelledScenes:
    """The scenes with labels: those to train on, and those held out to judge by."""

    train: Scenes
    validation: Scenes


def improve(
    shape: DetectorShape,
    labelled: LabelledScenes,
    pool: Scenes,
    plan: DetectionPlan,
    *,
    seed: int,
    progress: Progress = silent,
) -> Improved:
    """Train a teacher on labels, then a student on labels and on what the student's average finds in `pool`.

    The control goes on from the same teacher for the same number of image-steps, on the labels alone: what the student
    has beyond it comes from the pool. A guard that rings leaves an alarm; validation decides what is kept.
    """
    teacher, ready, count = burnt_in(shape, labelled, plan, seed, progress)
    scores = {"teacher": judged(teacher, shape, labelled.validation).average_precision()}
    student, thresholds = None, ready.thresholds
    rung: tuple[Alarm, ...] = ()
    if ready.thresholds is not None and len(pool):
        student, watch = taught_student(teacher, shape, labelled, pool, plan, ready.thresholds, seed, progress)
        rung = alarms(watch.kept_lately(), marked_in_view(labelled.train, plan.student, seed))
        reached = judged(student, shape, labelled.validation)
        scores["student"] = reached.average_precision()
        if scores["student"] >= scores["teacher"]:
            thresholds = readiness(reached, plan.needed).thresholds
    control = None
    if student is not None and plan.control:
        control = longer_on_labels(teacher, shape, labelled, plan, seed, progress)
        scores["control"] = judged(control, shape, labelled.validation).average_precision()
    return Improved(teacher, student, control, ready, rung, scores, count, thresholds)


def burnt_in(
    shape: DetectorShape,
    labelled: LabelledScenes,
    plan: DetectionPlan,
    seed: int,
    progress: Progress,
    keep: Callable[[str], Keeper] = lambda name: Keeper(None),
) -> tuple[keras.Model, Readiness, int]:
    """A first teacher, whether it may teach, and how often it was trained until then.

    It is the best one by average precision on validation; a repetition that made it worse is left out.
    """
    model = build_detector(shape, seed=seed)
    models: list[keras.Model] = []
    tried: list[BurntIn] = []
    while len(tried) <= plan.more_burn_ins and not (tried and burnt_in_enough(tried, plan.needed)):
        count = len(tried) + 1
        note = noting(progress, "teacher" if count == 1 else f"teacher, again ({count})")
        own, at = keep(f"teacher{count}"), seed + 100 * count
        with own.held():
            train_detector(model, shape, plan.teacher, labelled.train, seed=at, keeper=own, progress=note)
        reached = judged(model, shape, labelled.validation)
        tried.append(BurntIn(readiness(reached, plan.needed), reached.average_precision()))
        models.append(copied(model))
    best = best_of(tried)
    return models[best], tried[best].ready, best + 1


def longer_on_labels(
    teacher: keras.Model,
    shape: DetectorShape,
    labelled: LabelledScenes,
    plan: DetectionPlan,
    seed: int,
    progress: Progress,
    keeper: Keeper | None = None,
) -> keras.Model:
    """The control: a copy of `teacher` that goes on for the student's steps, on the labels alone; or a new network."""
    new = plan.new
    return train_detector(
        copied(teacher) if new is None else build_detector(new, seed=seed + 1),
        new or shape,
        plan.student,
        labelled.train,
        seed=seed + 1,
        steady=True if new is None else None,
        keeper=keeper,
        progress=noting(progress, "control"),
    )


def judged(model: keras.Model, shape: DetectorShape, scenes: Scenes) -> Matches:
    """What `model` finds in `scenes`, matched with their objects."""
    return _matched(Detector(model, shape.strides, Choice(score=0.02, outlines=False)), shape, scenes)


def _matched(asked: Detector | MirroredDetector, shape: DetectorShape, scenes: Scenes) -> Matches:
    return matched(asked(scenes.images), scenes.objects, classes=shape.classes)


def taught_student(
    teacher: keras.Model,
    shape: DetectorShape,
    labelled: LabelledScenes,
    pool: Scenes,
    plan: DetectionPlan,
    thresholds: tuple[float, ...],
    seed: int,
    progress: Progress,
    keeper: Keeper | None = None,
) -> tuple[keras.Model, Watch]:
    """A copy of `teacher` that goes on by the plan's method, and what it was taught."""
    method = UnbiasedTeacher(
        thresholds,
        weight=plan.weight,
        ramp_up=plan.ramp_up,
        ignore_from=plan.ignore_from,
        update_every=plan.update_every,
        box_regression=plan.box_regression,
    )
    watch = Watch()
    if plan.new is not None:
        student = build_detector(plan.new, seed=seed + 1)
        learn_from_teacher(
            *(student, plan.new, plan.student, method, labelled.train, pool),
            teacher=Detector(teacher, shape.strides, Choice(score=LOWEST_SCORE, outlines=False)),
            seed=seed + 1,
            watch=watch,
            keeper=keeper,
            progress=noting(progress, "student"),
        )
        return student, watch
    student = copied(teacher)
    if plan.method == "data_distillation":
        distil(
            *(student, shape, plan.student, replace(method, check_every=plan.relabel_every), labelled.train, pool),
            seed=seed + 1,
            check=lambda mirrored: readiness(_matched(mirrored, shape, labelled.validation), plan.needed).thresholds,
            watch=watch,
            keeper=keeper,
            progress=noting(progress, "student"),
        )
        return student, watch
    learn_from_unlabelled(
        student,
        shape,
        plan.student,
        method,
        labelled.train,
        pool,
        seed=seed + 1,
        check=lambda model: readiness(judged(model, shape, labelled.validation), plan.needed).thresholds,
        watch=watch,
        keeper=keeper,
        progress=noting(progress, "student"),
    )
    return student, watch


def marked_in_view(scenes: Scenes, recipe: DetectorRecipe, seed: int) -> float:
    """How many objects people marked in a view, on average."""
    views = views_of(scenes, (seed,), count=_COUNTED_VIEWS, size=recipe.size, moves=recipe.moves, share_strong=0.0)
    return float(np.mean([(~each.ignored).sum() for each in views.objects]))
