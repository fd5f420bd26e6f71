"""Mirrored views: a detector looks at an image several times, and what it finds is averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from selftrain.data.annotations.run_lengths import mask_of, pixels_of
from selftrain.learn.detection.detect import Detections, Detector
from selftrain.learn.detection.matching import overlaps
from selftrain.learn.detection.views import Pixels
from selftrain.progress import Progress, silent

Pixel = TypeVar("Pixel", bound=np.generic)
Views = Literal[1, 2, 4]
"""1: the image as it is. 2: and mirrored left to right. 4: and both upside down."""
SAME = 0.6
"""Boxes of two views that overlap by so much are one object; those of one view overlap less, by `Choice.overlap`."""


class MirroredDetector:
    """A `Detector` that looks at `views` views of each image, and averages what it finds in them."""

    def __init__(self, detector: Detector, views: Views) -> None:
        self._detector, self._views = detector, views

    def __call__(
        self, images: Sequence[Pixels] | Pixels, *, batch_size: int = 8, progress: Progress = silent
    ) -> list[Detections]:
        """The detections of each of `images` (h, w, 3), as `Detector` gives them."""
        if self._views == 1:
            return self._detector(images, batch_size=batch_size, progress=progress)
        total, every = len(images), []
        for turn in range(self._views):
            shown = [mirrored_pixels(image, turn) for image in images]
            found = self._detector(
                shown,
                batch_size=batch_size,
                progress=lambda done, _, note="", turn=turn: progress(
                    (turn * total + done) // self._views, total, note
                ),
            )
            every.append([mirrored_back(each, turn, image) for each, image in zip(found, images, strict=True)])
        return [fused(views).first(self._detector.choice.most) for views in zip(*every, strict=True)]


def mirrored_pixels(image: NDArray[Pixel], turn: int) -> NDArray[Pixel]:
    """`image` (h, w) or (h, w, 3), left and right exchanged in odd turns, top and bottom from turn 2 on."""
    across = image[:, ::-1] if turn % 2 else image
    return np.ascontiguousarray(across[::-1] if turn >= 2 else across)


def mirrored_back(found: Detections, turn: int, image: Pixels) -> Detections:
    """What was `found` in `mirrored_pixels(image, turn)`, in the pixels of `image`."""
    if not turn:
        return found
    height, width = image.shape[:2]
    boxes, masks = found.boxes.copy(), found.masks
    if turn % 2:
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    if turn >= 2:
        boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
    if masks is not None:
        masks = np.array([None, *(_mirrored_mask(mask, turn, height, width) for mask in masks)], object)[1:]
    return Detections(boxes, found.classes, found.scores, masks)


def _mirrored_mask(mask: dict[str, Any], turn: int, height: int, width: int) -> dict[str, Any]:
    pixels = pixels_of(mask["counts"], height=height, width=width)
    return {"size": mask["size"], "counts": mask_of(mirrored_pixels(pixels, turn))}


def fused(views: Sequence[Detections]) -> Detections:
    """The detections of several `views` of one image, which overlapping boxes of a class share (arXiv:1910.13302).

    A box is the average of the views' boxes by score; a view that does not have it counts as 0 in the score's mean. The
    mask is that of the view with the best score.
    """
    boxes, classes, scores = (
        np.concatenate([getattr(each, name) for each in views]) for name in ("boxes", "classes", "scores")
    )
    view = np.repeat(np.arange(len(views)), [len(each) for each in views])
    order = np.argsort(-scores, kind="stable")
    boxes, classes, scores, view = boxes[order], classes[order], scores[order], view[order]
    left = np.ones(len(boxes), np.bool_)
    members: list[NDArray[np.int64]] = []
    for row in range(len(boxes)):
        if left[row]:
            near = left & (classes == classes[row]) & (overlaps(boxes[row : row + 1], boxes)[0] >= SAME)
            near[row] = True
            members.append(np.array([np.flatnonzero(near & (view == each))[0] for each in np.unique(view[near])]))
            left &= ~near
    sums = np.array([scores[each].sum() for each in members], np.float32)
    together = np.array([scores[each] @ boxes[each] for each in members], np.float32).reshape(-1, 4)
    best = np.array([each[scores[each].argmax()] for each in members], np.int64)
    falling = np.argsort(-sums, kind="stable")
    masks = None
    if all(each.masks is not None for each in views):
        masks = np.concatenate([each.masks for each in views if each.masks is not None])[order][best][falling]
    averaged = (together / np.maximum(sums, 1e-9)[:, None])[falling].astype(np.float32)
    return Detections(averaged, classes[best][falling], (sums / len(views))[falling].astype(np.float32), masks)
