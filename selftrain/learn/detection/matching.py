"""Matching: which detections are right, and the score from which enough of them are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selftrain.learn.detection.detect import Detections
from selftrain.learn.shapes.objects import Objects

OVERLAP = 0.5
"""Of a detection with the object that it found, at least."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections of all images by falling score: their `scores`, `classes` and whether each is `right` (n,).

    `image` (n,) is the image of each; `marked` (images, classes) counts the objects there. Detections in ignored boxes
    are left out.
    """

    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    right: NDArray[np.bool_]
    image: NDArray[np.int64]
    marked: NDArray[np.int64]

    @property
    def objects(self) -> NDArray[np.int64]:
        """How many objects of each class there are (classes,)."""
        return np.asarray(self.marked.sum(axis=0))

    def average_precision(self, times: NDArray[np.int64] | None = None) -> float:
        """AP at OVERLAP: the mean over the classes with objects, by the 101 recalls that COCO reads.

        `times` (images,): how often each image counts, as in a bootstrap; once by default.
        """
        often = np.ones(len(self.marked), np.int64) if times is None else times
        objects = often @ self.marked
        each = [self._of_class(int(name), often[self.image], objects) for name in np.flatnonzero(objects)]
        return float(np.mean(each)) if each else 0.0

    def _of_class(self, name: int, often: NDArray[np.int64], objects: NDArray[np.int64]) -> float:
        mine = self.classes == name
        right, seen = np.cumsum(often[mine] * self.right[mine]), np.cumsum(often[mine])
        precision = np.maximum.accumulate((right / np.maximum(seen, 1))[::-1])[::-1]
        at = np.searchsorted(right / objects[name], np.linspace(0, 1, 101), side="left")
        return float(np.concatenate([precision, [0.0]])[np.minimum(at, len(precision))].mean())

    def precision_and_recall(self, score: float, name: int | None = None) -> tuple[float, float]:
        """Those of the detections with at least this score, of one class or all; a precision of none is 1."""
        kept = (self.scores >= score) & ((self.classes == name) if name is not None else True)
        right, there = int(self.right[kept].sum()), int(self.objects.sum() if name is None else self.objects[name])
        return right / max(int(kept.sum()), 1) if kept.any() else 1.0, right / max(there, 1)

    def lowest_score(self, precision: float, name: int | None = None) -> float | None:
        """The lowest score from which the detections, of one class or all, have this precision, or None."""
        mine = np.ones(len(self.scores), np.bool_) if name is None else self.classes == name
        scores, right = self.scores[mine], self.right[mine]
        reached = np.flatnonzero(np.cumsum(right) / np.arange(1, len(right) + 1) >= precision)
        return float(scores[reached[-1]]) if len(reached) else None


def matched(found: Sequence[Detections], objects: Sequence[Objects], *, classes: int) -> Matches:
    """Each detection with the object that it overlaps most, the best scores first; each object is found once."""
    parts = [_of_image(one, other) for one, other in zip(found, objects, strict=True)]
    image = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    scores, names, right = (np.concatenate([part[i] for part in parts]) for i in range(3))
    order = np.argsort(-scores, kind="stable")
    marked = [np.bincount(each.classes[~each.ignored], minlength=classes) for each in objects]
    return Matches(scores[order], names[order], right[order], image[order], np.array(marked))


def gain(final: Matches, other: Matches, *, seed: int = 0, draws: int = 1000) -> tuple[float, float, float]:
    """How much higher the AP of `final` is than that of `other` on the same images, with a 95 % interval.

    The interval is a bootstrap over images. Both are read on the same draws.
    """
    rng, count = np.random.default_rng(seed), len(final.marked)
    often = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    apart = [final.average_precision(each) - other.average_precision(each) for each in often]
    low, high = np.quantile(apart, [0.025, 0.975])
    return final.average_precision() - other.average_precision(), float(low), float(high)


def _of_image(found: Detections, objects: Objects) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    shared = overlaps(found.boxes, objects.boxes)
    same = (found.classes[:, None] == objects.classes) & ~objects.ignored
    free = np.ones(len(objects), np.bool_)
    right = np.zeros(len(found), np.bool_)
    for row in range(len(found)):
        fits = np.where(same[row] & free, shared[row], 0.0)
        if fits.max(initial=0.0) >= OVERLAP:
            right[row] = True
            free[fits.argmax()] = False
    in_ignored = _covered(found.boxes, objects.boxes[objects.ignored]) >= OVERLAP
    counts = right | ~in_ignored
    return found.scores[counts], found.classes[counts], right[counts]


def _intersections(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    both: NDArray[np.float32] = np.prod(np.maximum(high - low, 0), axis=-1)
    return both


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6), axis=-1)
    return areas


def overlaps(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """The intersection over union (k, m) of boxes `some` (k, 4) and `others` (m, 4)."""
    both = _intersections(some, others)
    shares: NDArray[np.float32] = both / (_areas(some)[:, None] + _areas(others) - both)
    return shares


def _covered(boxes: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest share of each of `boxes` (k, 4) that lies in one of `by` (m, 4)."""
    shares: NDArray[np.float32] = (_intersections(boxes, by) / _areas(boxes)[:, None]).max(axis=1, initial=0.0)
    return shares
