"""Detection: boxes, classes and scores for images of any size, without doubles."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from selftrain.learn.detection.views import GREY, Pixels, shrunk
from selftrain.learn.shapes.boxes import Grid, decoded, grid, suppressed
from selftrain.learn.shapes.outlines import as_texts, drawn_masks
from selftrain.progress import Progress, silent

MOST_SIZES = 24
"""Of images, whose compiled networks are kept; those used last."""


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image: `boxes` (k, 4) as x0, y0, x1, y1 in its pixels, `classes` (k,), `scores` (k,).

    They are sorted by falling score. `masks` (k,) are run lengths as pycocotools has them, a dict of size and counts;
    None of a detector without masks.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    masks: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def plain(
        self, names: Sequence[str]
    ) -> tuple[list[list[float]], list[str], list[float], list[dict[str, object]] | None]:
        """Boxes as x, y, width, height in pixels, labels, scores and masks, as lists that JSON can hold.

        A mask is COCO's run lengths: `size`, the image's height and width, and `counts`, a text. None without masks.
        """
        boxes = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], axis=1)
        labels = [names[label] for label in self.classes.tolist()]
        return boxes.tolist(), labels, self.scores.tolist(), None if self.masks is None else as_texts(self.masks)

    def above(self, score: float) -> Detections:
        """Those with at least this score."""
        return self.first(int((self.scores >= score).sum()))

    def first(self, most: int) -> Detections:
        """The best ones, at most so many."""
        masks = None if self.masks is None else self.masks[:most]
        return Detections(self.boxes[:most], self.classes[:most], self.scores[:most], masks)


@dataclass(frozen=True)
class Choice:
    """Which answers count: at most `most` an image, from `score` on; of those that overlap by `overlap`, the best."""

    most: int = 300
    score: float = 0.05
    overlap: float = 0.6
    longest: int = 1024
    """The longest side in pixels at which an image is looked at; larger ones are made smaller."""
    outlines: bool = True
    """Whether masks are drawn, by a detector that knows them."""


class Detector:
    """A detector (see `network.build_detector`) that answers for images of any size."""

    def __init__(self, model: keras.Model, strides: tuple[int, ...], choice: Choice | None = None) -> None:
        self.model, self.strides, self.choice = model, strides, choice or Choice()
        self._found: OrderedDict[tuple[int, int], keras.Model] = OrderedDict()

    def __call__(
        self, images: Sequence[Pixels] | Pixels, *, batch_size: int = 8, progress: Progress = silent
    ) -> list[Detections]:
        """The detections of each of `images` (h, w, 3), 0-255; images of one padded size are asked together."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            groups[self._padded(image)].append(index)
        found: dict[int, Detections] = {}
        for size, members in groups.items():
            for first in range(0, len(members), batch_size):
                some = members[first : first + batch_size]
                found |= dict(zip(some, self._batch([images[i] for i in some], size, batch_size), strict=True))
                progress(len(found), len(images))
        return [found[index] for index in range(len(images))]

    def _scale(self, image: Pixels) -> float:
        return min(1.0, self.choice.longest / float(max(image.shape[0], image.shape[1])))

    def _padded(self, image: Pixels) -> tuple[int, int]:
        """Height and width of the canvas for `image`: multiples of 64, so that few sizes are compiled."""
        step = max(64, *self.strides)
        height, width = (max(1, round(side * self._scale(image))) for side in image.shape[:2])
        return -(-height // step) * step, -(-width // step) * step

    def _batch(self, images: list[Pixels], size: tuple[int, int], batch_size: int) -> list[Detections]:
        canvas = np.full((batch_size, *size, 3), GREY, np.uint8)
        for place, image in zip(canvas, images, strict=False):
            small = shrunk(image, self.choice.longest)
            place[: small.shape[0], : small.shape[1]] = small
        answers = self._network(size).predict_on_batch(canvas)
        return [self._of(image, *(each[i] for each in answers)) for i, image in enumerate(images)]

    def _of(
        self,
        image: Pixels,
        boxes: NDArray[np.float32],
        classes: NDArray[np.int32],
        scores: NDArray[np.float32],
        mixtures: NDArray[np.float32] | None = None,
        prototypes: NDArray[np.float32] | None = None,
    ) -> Detections:
        """The detections of `image` among the answers for it, in its pixels."""
        height, width = image.shape[:2]
        back = boxes / self._scale(image)
        inside = np.clip(back, 0, np.array([width, height, width, height], np.float32))
        real = (scores >= self.choice.score) & (inside[:, 2:] > inside[:, :2]).all(axis=1)
        found = Detections(inside[real], classes[real].astype(np.int64), scores[real])
        if mixtures is None or prototypes is None or not self.choice.outlines:
            return found
        stride, scale = min(self.strides), self._scale(image)
        masks = drawn_masks(
            prototypes, mixtures[real], found.boxes, stride=stride, scale=scale, height=height, width=width
        )
        return replace(found, masks=masks)

    def _network(self, size: tuple[int, int]) -> keras.Model:
        """The model for one canvas: `choice.most` boxes an image, those that are not kept with score 0."""
        if size not in self._found:
            image = keras.Input((*size, 3))
            answered = self.model(image, training=False)
            answers = _Chosen(grid(*size, self.strides), self.choice)(answered)
            self._found[size] = keras.Model(image, answers)
            self._found[size].compile(jit_compile=False)
            if len(self._found) > MOST_SIZES:
                self._found.popitem(last=False)
        self._found.move_to_end(size)
        return self._found[size]


class _Chosen(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Boxes, classes and scores of an image's best locations, without doubles of the same class."""

    def __init__(self, where: Grid, choice: Choice) -> None:
        super().__init__()
        self._where, self._choice = where, choice

    def call(self, answers: keras.KerasTensor | list[keras.KerasTensor]) -> tuple[keras.KerasTensor, ...]:
        if not isinstance(answers, (list, tuple)):
            return chosen(answers, self._where, self._choice)
        every, prototypes = answers
        mixed = prototypes.shape[-1]
        *found, location = _best(every[..., mixed:], self._where, self._choice)
        return *found, ops.take_along_axis(every[..., :mixed], location[..., None], axis=1), prototypes


def chosen(answers: keras.KerasTensor, where: Grid, choice: Choice) -> tuple[keras.KerasTensor, ...]:
    """Boxes (n, k, 4), classes (n, k) and scores (n, k) of the network's `answers`, the best first; doubles score 0."""
    return _best(answers, where, choice)[:3]


def _best(answers: keras.KerasTensor, where: Grid, choice: Choice) -> tuple[keras.KerasTensor, ...]:
    """What `chosen` gives, and the location (n, k) of each."""
    scores = ops.sigmoid(answers[..., :-4])
    classes = scores.shape[-1]
    flat = ops.reshape(scores, (-1, scores.shape[1] * classes))
    best, at = ops.top_k(flat, min(choice.most, flat.shape[1]))
    location, named = at // classes, at % classes
    boxes = ops.take_along_axis(decoded(answers[..., -4:], where), location[..., None], axis=1)
    apart = ops.cast(named, "float32")[..., None] * 1e5  # boxes of two classes never overlap
    kept = suppressed(boxes + apart, threshold=choice.overlap)
    return boxes, ops.cast(named, "int32"), ops.where(kept, best, 0.0), location
