"""Unbiased Teacher (arXiv:2102.09480): a detector learns from labels, and from what its own average finds elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import keras
import numpy as np
from numpy.typing import NDArray

from selftrain.learn.detection.detect import Choice, Detections, Detector
from selftrain.learn.detection.keeping import Keeper
from selftrain.learn.detection.network import DetectorShape, freeze_statistics
from selftrain.learn.detection.scenes import Scenes, Views, ahead, views_of
from selftrain.learn.detection.training import DetectorRecipe, DetectorRun
from selftrain.learn.networks import variables
from selftrain.learn.networks.copies import copied
from selftrain.learn.shapes.objects import Objects, packed
from selftrain.progress import Progress, silent

LOWEST_SCORE = 0.01
"""Of a teacher's boxes that are looked at, whatever the thresholds are by then."""


@dataclass(frozen=True)
class UnbiasedTeacher:
    """How the unlabelled images teach.

    - `weight`: of their loss, reached after the share `ramp_up` of the steps; the labelled images' is 1.
    - `threshold`: the score from which a box is a pseudo-label, one for each class. A focal head is rarely surer than
      .5, so the .7 of the paper would keep next to nothing: choose it by precision on validation.
    - `ignore_from`: from this share of the threshold on, a box is neither object nor background.
    - `update_every`: steps between updates of the teacher, the average of the student.
    - `box_regression`: whether pseudo-labels also teach where a box ends.
    - `check_every`: steps between looks at validation, each of which sets the thresholds: scores rise in training.
    """

    threshold: tuple[float, ...]
    weight: float = 1.0
    ramp_up: float = 0.1
    ignore_from: float = 0.25
    update_every: int = 1
    box_regression: bool = False
    check_every: int = 100


@dataclass
class Watch:
    """What the teacher taught: per step, its boxes per view and the loss."""

    kept: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def arrays(self) -> tuple[NDArray[np.float64], ...]:
        """What a save of the training holds of it."""
        return np.asarray(self.kept), np.asarray(self.losses)

    def restore(self, arrays: Sequence[NDArray[np.float64]]) -> None:
        """Put back what `arrays` gave."""
        self.kept, self.losses = (each.tolist() for each in arrays)

    def kept_lately(self, steps: int = 50) -> float:
        """The mean number of pseudo-labels in a view over the last steps."""
        return float(np.mean(self.kept[-steps:])) if self.kept else 0.0


def pseudo_objects(found: Detections, method: UnbiasedTeacher, *, weight: float) -> Objects:
    """The pseudo-labels of a view: boxes above their class's threshold; those a little below are ignored."""
    threshold = np.asarray(method.threshold, np.float32)[found.classes]
    worth = found.scores >= threshold * method.ignore_from
    sure = (found.scores >= threshold)[worth]
    boxes, classes = found.boxes[worth], found.classes[worth]
    ones = np.ones(len(boxes), np.float32)
    box_weights = ones * weight * method.box_regression
    return Objects(boxes, classes, ~sure, ones * weight, box_weights, found.scores[worth])


def learn_from_unlabelled(
    model: keras.Model,
    shape: DetectorShape,
    recipe: DetectorRecipe,
    method: UnbiasedTeacher,
    labelled: Scenes,
    unlabelled: Scenes,
    *,
    seed: int,
    check: Callable[[keras.Model], tuple[float, ...] | None] = lambda teacher: None,
    watch: Watch | None = None,
    keeper: Keeper | None = None,
    progress: Progress = silent,
) -> keras.Model:
    """Go on training `model`, after its burn-in, on `labelled` scenes and on what its average finds in `unlabelled`.

    A step sees `recipe.batch_size` views, half of them unlabelled: the teacher answers for the weak view, the student
    learns from the strong one. Batch norm keeps its statistics, so that teacher and student differ in their weights
    alone. The averaged weights are left in `model`. `check` gives the thresholds of the teacher as it is, or None to
    keep the earlier ones. A `keeper` saves the training, as in `train_detector`.
    """
    lesson = Lesson(model, shape, recipe, method, watch or Watch(), keeper or Keeper(None))
    if lesson.ended:
        return model
    asked = Detector(lesson.teacher, shape.strides, Choice(most=recipe.most, score=LOWEST_SCORE, outlines=False))
    views = partial(views_of_both, labelled, unlabelled, recipe, seed)
    for human, other in ahead(views, range(lesson.step, recipe.steps)):
        found = asked(other.weak, batch_size=len(other.weak))
        lesson.learn(human, other, [pseudo_objects(each, lesson.method, weight=lesson.weight) for each in found])
        if lesson.step % method.update_every == 0:
            lesson.update_teacher()
        if lesson.step % method.check_every == 0:
            lesson.set_threshold(check(lesson.teacher))
        lesson.keep(progress)
    return lesson.finished()


class Lesson:
    """A student in training, the average of its weights that teaches it, and what a save holds of both.

    `ended`: a `keeper` has the final weights of this training, which are in `model` then. `steady`: as for DetectorRun.
    """

    def __init__(
        self,
        model: keras.Model,
        shape: DetectorShape,
        recipe: DetectorRecipe,
        method: UnbiasedTeacher,
        watch: Watch,
        keeper: Keeper,
        *,
        steady: bool = True,
    ) -> None:
        self.method, self._model, self._recipe, self._watch, self._kept = method, model, recipe, watch, keeper
        final = keeper.finished()
        self.ended = final is not None
        if final is not None:
            variables.write(model.weights, final[: len(model.weights)])
            watch.restore(final[len(model.weights) :])
            return
        self.teacher = copied(model)
        freeze_statistics(self.teacher)
        self._run = DetectorRun(model, shape, recipe, steady=steady)
        if (before := keeper.go_on(self._run, self.teacher.weights)) is not None:
            self.set_threshold(tuple(before[0].tolist()))
            watch.restore(before[1:])

    @property
    def step(self) -> int:
        """The steps that were learned."""
        return self._run.step

    @property
    def weight(self) -> float:
        """Of the pseudo-labels in the step that comes."""
        return self.method.weight * min(1.0, (self.step + 1) / max(self.method.ramp_up * self._recipe.steps, 1))

    def learn(self, human: Views, other: Views, pseudo: Sequence[Objects]) -> None:
        """One step on labelled views, and on strong ones of the others with their `pseudo`-labels."""
        loss = self._run.learn(*both_halves(human, other, pseudo, self._recipe, masks=self._run.masks))
        self._watch.losses.append(loss)
        self._watch.kept.append(float(np.mean([(~each.ignored).sum() for each in pseudo])))

    def update_teacher(self) -> None:
        """Make the average of the student's weights the teacher."""
        variables.write(self.teacher.trainable_variables, self._run.averaged())

    def set_threshold(self, threshold: tuple[float, ...] | None) -> None:
        """The scores from which boxes are pseudo-labels; None keeps the earlier ones."""
        self.method = replace(self.method, threshold=threshold or self.method.threshold)

    def keep(self, progress: Progress) -> None:
        """Tell how far it is, and save it if it is time."""
        note = f"loss {self._watch.losses[-1]:.3f}, {self._watch.kept_lately():.1f} boxes a view"
        progress(self.step, self._recipe.steps, note)
        threshold = np.asarray(self.method.threshold)
        self._kept.in_time(self._run, self.teacher.weights, (threshold, *self._watch.arrays))

    def finished(self, before: Callable[[], None] = lambda: None) -> keras.Model:
        """The student, with the average of its weights. `before` is done to it before it is saved."""
        variables.write(self._model.trainable_variables, self._run.averaged())
        before()
        self._kept.finish(self._model, self._recipe.steps, self._watch.arrays)
        return self._model


def views_of_both(
    labelled: Scenes, unlabelled: Scenes, recipe: DetectorRecipe, seed: int, step: int
) -> tuple[Views, Views]:
    """The views of a step: half of them of labelled scenes, and strong ones of the others."""
    half = recipe.batch_size // 2
    size, moves = recipe.size, recipe.moves
    share = recipe.share_strong
    human = views_of(labelled, (seed, step), count=recipe.batch_size - half, size=size, moves=moves, share_strong=share)
    return human, views_of(unlabelled, (seed, step, 1), count=half, size=size, moves=moves)


def both_halves(
    human: Views, other: Views, pseudo: Sequence[Objects], recipe: DetectorRecipe, *, masks: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Images (n, s, s, 3) and packed objects (n, most, 10) of both halves of a batch, labelled and not."""
    images = np.concatenate([human.strong, other.strong])
    labelled = packed(human.objects, most=recipe.most, masks=masks)
    rows = (labelled, packed(pseudo, most=recipe.most, group=1, masks=masks))
    return images, np.concatenate(rows)
