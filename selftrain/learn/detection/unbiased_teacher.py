"""Unbiased Teacher (arXiv:2102.09480): a detector learns from labels, and from what its own average finds elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

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
    kept, watch = keeper or Keeper(None), watch if watch is not None else Watch()
    if (final := kept.finished()) is not None:
        variables.write(model.weights, final[: len(model.weights)])
        watch.restore(final[len(model.weights) :])
        return model
    teacher = copied(model)
    freeze_statistics(teacher)
    run = DetectorRun(model, shape, recipe, steady=True)
    if (before := kept.go_on(run, teacher.weights)) is not None:
        method = replace(method, threshold=tuple(before[0].tolist()))
        watch.restore(before[1:])
    asked = Detector(teacher, shape.strides, Choice(most=recipe.most, score=LOWEST_SCORE, outlines=False))
    for both in ahead(lambda step: _views(labelled, unlabelled, recipe, seed, step), range(run.step, recipe.steps)):
        human, other = both
        found = asked(other.weak, batch_size=len(other.weak))
        weight = method.weight * min(1.0, (run.step + 1) / max(method.ramp_up * recipe.steps, 1))
        pseudo = [pseudo_objects(each, method, weight=weight) for each in found]
        loss = run.learn(*both_halves(human, other, pseudo, recipe, masks=run.masks))
        watch.losses.append(loss)
        watch.kept.append(float(np.mean([(~each.ignored).sum() for each in pseudo])))
        if run.step % method.update_every == 0:
            variables.write(teacher.trainable_variables, run.averaged())
        if run.step % method.check_every == 0:
            method = replace(method, threshold=check(teacher) or method.threshold)
        progress(run.step, recipe.steps, f"loss {loss:.3f}, {watch.kept_lately():.1f} boxes a view")
        kept.in_time(run, teacher.weights, (np.asarray(method.threshold), *watch.arrays))
    variables.write(model.trainable_variables, run.averaged())
    kept.finish(model, recipe.steps, watch.arrays)
    return model


def _views(labelled: Scenes, unlabelled: Scenes, recipe: DetectorRecipe, seed: int, step: int) -> tuple[Views, Views]:
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
