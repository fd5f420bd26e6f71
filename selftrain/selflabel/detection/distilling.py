"""Data distillation (arXiv:1712.04440): a detector learns from labels, and from what it finds in mirrored images.

Unbiased Teacher looks at each weak view once. Here the average of the weights looks at whole images, and at their
mirror images too; what several of them show is more often right. It does so every few hundred steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import overload

import keras
import numpy as np

from selftrain.learn.detection.detect import Choice, Detector
from selftrain.learn.detection.keeping import Keeper
from selftrain.learn.detection.mirrored import MirroredDetector
from selftrain.learn.detection.network import DetectorShape
from selftrain.learn.detection.scenes import Scenes, ahead
from selftrain.learn.detection.training import DetectorRecipe, measure_statistics
from selftrain.learn.detection.unbiased_teacher import Lesson, UnbiasedTeacher, Watch, pseudo_objects, views_of_both
from selftrain.learn.detection.views import Pixels
from selftrain.learn.shapes.objects import Objects
from selftrain.progress import Progress, silent

LOWEST_SCORE = 0.05
"""Of a box in one view, so that it counts in the average."""
VIEWS_OF_IMAGE = 4
"""That a training sees of an image, on average, before it is labelled again: more images need more looks."""
_AT_ONCE = 64  # images that are mirrored in memory


@dataclass(frozen=True)
class _Some(Sequence[Pixels]):
    """Those of `images` at `rows`, read when they are asked for."""

    images: Sequence[Pixels]
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Pixels: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Pixels]: ...

    def __getitem__(self, index: int | slice) -> Pixels | Sequence[Pixels]:
        if isinstance(index, slice):
            return [self.images[row] for row in self.rows[index]]
        return self.images[self.rows[index]]


def distil(
    model: keras.Model,
    shape: DetectorShape,
    recipe: DetectorRecipe,
    method: UnbiasedTeacher,
    labelled: Scenes,
    unlabelled: Scenes,
    *,
    seed: int,
    check: Callable[[MirroredDetector], tuple[float, ...] | None] = lambda teacher: None,
    watch: Watch | None = None,
    keeper: Keeper | None = None,
    progress: Progress = silent,
) -> keras.Model:
    """Go on training `model` on `labelled` scenes and on what its average finds in `unlabelled` ones.

    Half of the views of a step are unlabelled. Every `method.check_every` steps the average of the weights becomes the
    teacher: `check` gives its thresholds, or None to keep the earlier ones, and it labels as many images as the steps
    until the next time need. The target of a pseudo-box is the student's own overlap with it, as for a box that a
    person drew. The averaged weights are left in `model`; a `keeper` saves the training, as in `train_detector`.
    """
    lesson = Lesson(model, shape, recipe, method, watch or Watch(), keeper or Keeper(None))
    if lesson.ended:
        return model
    detector = Detector(lesson.teacher, shape.strides, Choice(score=LOWEST_SCORE, outlines=False))
    asked, every = MirroredDetector(detector, 4 if recipe.moves.turns else 2), method.check_every
    while lesson.step < recipe.steps:
        part, into_part = divmod(lesson.step, every)
        if not into_part:
            if lesson.step:
                lesson.update_teacher()
            lesson.set_threshold(check(asked))
        found = labelled_by(asked, unlabelled, lesson.method, count=every * recipe.batch_size // 2, seed=(seed, part))
        views = partial(views_of_both, labelled, found, recipe, seed)
        for human, other in ahead(views, range(lesson.step, min((part + 1) * every, recipe.steps))):
            weight = lesson.weight
            lesson.learn(human, other, [replace(each, weights=each.weights * weight) for each in other.objects])
            lesson.keep(progress)
    return lesson.finished()


def learn_from_teacher(
    model: keras.Model,
    shape: DetectorShape,
    recipe: DetectorRecipe,
    method: UnbiasedTeacher,
    labelled: Scenes,
    unlabelled: Scenes,
    *,
    teacher: Detector,
    seed: int,
    watch: Watch | None = None,
    keeper: Keeper | None = None,
    progress: Progress = silent,
) -> keras.Model:
    """Train the new network `model` on `labelled` scenes and on what `teacher` finds in `unlabelled` ones, once.

    This is Noisy Student (arXiv:1911.04252) for boxes: the student may be larger than its teacher, and sees strong
    views. Half of the views of a step are unlabelled. The averaged weights are left in `model`.
    """
    steady = shape.weights is not None
    lesson = Lesson(model, shape, recipe, method, watch or Watch(), keeper or Keeper(None), steady=steady)
    if lesson.ended:
        return model
    asked = MirroredDetector(teacher, 4 if recipe.moves.turns else 2)
    found = labelled_by(asked, unlabelled, method, count=recipe.steps * recipe.batch_size // 2, seed=(seed, 0))
    views = partial(views_of_both, labelled, found, recipe, seed)
    for human, other in ahead(views, range(lesson.step, recipe.steps)):
        weight = lesson.weight
        lesson.learn(human, other, [replace(each, weights=each.weights * weight) for each in other.objects])
        lesson.keep(progress)
    return lesson.finished(lambda: None if steady else measure_statistics(model, labelled, recipe, seed))


def labelled_by(
    teacher: MirroredDetector, pool: Scenes, method: UnbiasedTeacher, *, count: int, seed: Sequence[int]
) -> Scenes:
    """Images of `pool` for `count` views, drawn by `seed`, with what `teacher` finds in them as their objects."""
    most = max(count // VIEWS_OF_IMAGE, 1)
    rows = np.sort(np.random.default_rng(list(seed)).permutation(len(pool))[:most]).tolist()
    images = _Some(pool.images, rows)
    objects: list[Objects] = []
    for first in range(0, len(rows), _AT_ONCE):
        for each in teacher(images[first : first + _AT_ONCE]):
            found = pseudo_objects(each, method, weight=1.0)
            objects.append(replace(found, scores=np.zeros_like(found.scores)))
    return Scenes(images, objects)
