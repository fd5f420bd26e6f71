"""Average precision by COCO's rule, as columns that a bootstrap over images can read again and again.

A detection is right if it overlaps an object of its class that no better one has found. The mean average precision
(mAP) is the mean over ten overlaps, .5 to .95, over the classes with objects, and over 101 recalls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 300
"""Detections an image and class that count. COCO's 100 would cut off images with more objects."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """The objects of one image: `boxes` (k, 4) as x0, y0, x1, y1 in pixels, `classes` (k,).

    Detections have `scores` (k,). What people marked has none; a `crowd` (k,) is neither right nor wrong. `masks` (k,)
    are run lengths as pycocotools has them, a dict of size and counts; None where an object has none.
    """

    boxes: Floats
    classes: Int64s
    scores: Floats
    crowd: Bools
    masks: npt.NDArray[np.object_] | None = None

    @classmethod
    def found(
        cls, boxes: Floats, classes: Int64s, scores: Floats, masks: npt.NDArray[np.object_] | None = None
    ) -> Boxes:
        """Detections."""
        return cls(boxes, classes, scores, np.zeros(len(boxes), np.bool_), masks)

    @classmethod
    def marked(
        cls, boxes: Floats, classes: Int64s, crowd: Bools, masks: npt.NDArray[np.object_] | None = None
    ) -> Boxes:
        """Objects that people marked."""
        return cls(boxes, classes, np.zeros(len(boxes), np.float32), crowd, masks)

    @property
    def outlined(self) -> bool:
        """Whether every object but a crowd has a mask."""
        if self.masks is None:
            return not (~self.crowd).any()
        return all(mask is not None for mask, crowd in zip(self.masks, self.crowd, strict=True) if not crowd)

    def of_class(self, name: int, most: int) -> Boxes:
        """Those of one class, the best first, at most `most`; real objects come before crowds."""
        mine = np.flatnonzero(self.classes == name)
        rank = np.lexsort((np.arange(len(mine)), -self.scores[mine], self.crowd[mine]))
        rows = mine[rank][:most]
        masks = None if self.masks is None else self.masks[rows]
        return Boxes(self.boxes[rows], self.classes[rows], self.scores[rows], self.crowd[rows], masks)


Overlaps = Callable[[Boxes, Boxes], npt.NDArray[np.float64]]
"""How far each of k detections covers each of m marked objects: (k, m), 0-1."""


@dataclass(frozen=True, eq=False)
class OfClass:
    """Detections of a class in all images, by falling score: whether each is right and counts (n, overlaps)."""

    image: Int64s
    right: Bools
    counts: Bools
    marked: Int64s  # (images,)
    scores: Floats  # (n,)

    def precision(self, overlap: int, often: Int64s | None) -> float:
        """AP at an overlap, if each image counts so `often` (images,); NaN without an object."""
        times = np.ones(len(self.image), np.int64) if often is None else often[self.image]
        there = int(self.marked.sum() if often is None else often @ self.marked)
        if not there:
            return float("nan")
        right = np.cumsum(times * self.right[:, overlap])
        seen = np.cumsum(times * self.counts[:, overlap])
        precision = np.maximum.accumulate((right / np.maximum(seen, 1))[::-1])[::-1]
        at = np.searchsorted(right / there, RECALLS, side="left")
        return float(np.append(precision, 0.0)[np.minimum(at, len(precision))].mean())

    def curve(self, overlap: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Recall and precision (n,) from each detection on, by falling score."""
        right, seen = np.cumsum(self.right[:, overlap]), np.cumsum(self.counts[:, overlap])
        return right / max(int(self.marked.sum()), 1), right / np.maximum(seen, 1)


@dataclass(frozen=True, eq=False)
class Judged:
    """The detections of all images, matched with what people marked there."""

    classes: tuple[OfClass, ...]
    images: int

    def mean_precision(self, overlaps: Sequence[int] | None = None, often: Int64s | None = None) -> float:
        """mAP at these positions of OVERLAPS (None: all), if each image counts so `often`; 0 without any object."""
        at = range(len(OVERLAPS)) if overlaps is None else overlaps
        values = np.array([[each.precision(overlap, often) for overlap in at] for each in self.classes])
        there = values[~np.isnan(values)]
        return float(there.mean()) if there.size else 0.0

    @cached_property
    def map(self) -> float:
        """Over ten overlaps."""
        return self.mean_precision()

    @cached_property
    def ap50(self) -> float:
        """At an overlap of .5."""
        return self.mean_precision((0,))

    def drawn(self, overlaps: Sequence[int] | None, *, draws: int, seed: int = 0) -> npt.NDArray[np.float64]:
        """(draws,) mAP on images drawn with replacement; the same draws for any two models on the same images."""
        rng = np.random.default_rng(seed)
        times = rng.multinomial(self.images, np.full(self.images, 1 / self.images), size=draws)
        return np.array([self.mean_precision(overlaps, each) for each in times])


def judge(
    found: Sequence[Boxes],
    marked: Sequence[Boxes],
    *,
    classes: int,
    most: int = MOST,
    overlaps: Overlaps | None = None,
) -> Judged:
    """The detections in each image matched with what people marked there, class by class, as COCO does.

    `overlaps` measures how far each detection covers each object; None: their boxes, `mask_overlaps`: their masks.
    """
    every = []
    for name in range(classes):
        parts = [
            _of_image(one.of_class(name, most), other.of_class(name, len(other.boxes)), overlaps or box_overlaps)
            for one, other in zip(found, marked, strict=True)
        ]
        image = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        scores = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0)
        order = np.argsort(-scores, kind="stable")
        right, counts = (
            np.concatenate([part[k] for part in parts])[order] if parts else np.zeros((0, len(OVERLAPS)), np.bool_)
            for k in (1, 2)
        )
        there = np.array([int(((each.classes == name) & ~each.crowd).sum()) for each in marked], np.int64)
        every.append(OfClass(image[order], right, counts, there, scores[order].astype(np.float32)))
    return Judged(tuple(every), len(marked))


def _of_image(found: Boxes, marked: Boxes, overlaps_of: Overlaps) -> tuple[Floats, Bools, Bools]:
    """Of one image and class: scores (k,), and whether each is right and counts (k, overlaps)."""
    shape = len(found.boxes), len(OVERLAPS)
    right, counts = np.zeros(shape, np.bool_), np.ones(shape, np.bool_)
    if not len(marked.boxes):
        return found.scores, right, counts
    overlaps = overlaps_of(found, marked)
    for column, least in enumerate(OVERLAPS):
        free = np.ones(len(marked.boxes), np.bool_)
        for row in range(len(found.boxes)):
            fits = np.where((free | marked.crowd) & (overlaps[row] >= least), overlaps[row], -1.0)
            real = np.where(marked.crowd, -1.0, fits)
            best = int(_last_best(real if real.max() > 0 else fits))
            if fits[best] <= 0:
                continue
            if marked.crowd[best]:
                counts[row, column] = False
            else:
                right[row, column], free[best] = True, False
    return found.scores, right, counts


def _last_best(values: npt.NDArray[np.float64]) -> int:
    """The position of the largest value; of equal ones the last, as COCO takes it."""
    return len(values) - 1 - int(values[::-1].argmax())


def box_overlaps(found: Boxes, marked: Boxes) -> npt.NDArray[np.float64]:
    """(k, m) intersection over union of boxes; over the detection's own area for a crowd."""
    one, two, crowd = found.boxes.astype(np.float64), marked.boxes.astype(np.float64), marked.crowd
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=-1)
    own, its = (np.prod(np.maximum(each[:, 2:] - each[:, :2], 0), axis=-1) for each in (one, two))
    union = np.where(crowd[None, :], own[:, None], own[:, None] + its[None, :] - both)
    return np.asarray(both / np.maximum(union, 1e-12))
