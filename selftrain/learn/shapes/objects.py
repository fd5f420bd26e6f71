"""Objects as a training sees them: the boxes of one image, and of a batch in one array of fixed shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from selftrain.learn.shapes.outlines import SIDE, UNKNOWN

Floats = NDArray[np.float32]

COLUMNS = ("x0", "y0", "x1", "y1", "kind", "name", "class_weight", "box_weight", "group", "score")
"""Of a row in a batch; `kind` is PAD, OBJECT or IGNORED, `name` the class, `group` the half that an image is in.

`score` is a teacher's, and 0 of a human label."""
PAD, OBJECT, IGNORED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one image: `boxes` (k, 4) as x0, y0, x1, y1 in pixels, and `classes` (k,).

    A training learns nothing from the inside of an `ignored` (k,) box, except of other objects in it. `weights` (k,)
    are those of the classes' loss; `box_weights` (k,) those of the boxes' loss. `scores` (k,) are 0 for human labels.

    `outlines` (k,) are the masks in the image, None where there is none. `patches` (k, s, s) are what a view shows of
    them in its boxes.
    """

    boxes: Floats
    classes: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    weights: Floats
    box_weights: Floats
    scores: Floats
    outlines: NDArray[np.object_] | None = None
    patches: NDArray[np.int8] | None = None

    @classmethod
    def of(
        cls,
        boxes: Floats,
        classes: NDArray[np.int64],
        ignored: NDArray[np.bool_] | None = None,
        outlines: NDArray[np.object_] | None = None,
    ) -> Objects:
        """Human labels: every object counts 1, but those `ignored`."""
        count, ones = len(boxes), np.ones(len(boxes), np.float32)
        none = np.zeros(count, np.bool_)
        whole = np.asarray(boxes, np.float32).reshape(count, 4)
        labels = np.asarray(classes, np.int64)
        return cls(whole, labels, none if ignored is None else ignored, ones, ones, 0 * ones, outlines)

    def __len__(self) -> int:
        return len(self.boxes)

    def at(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Objects:
        """The objects at `rows`."""
        return Objects(
            self.boxes[rows],
            self.classes[rows],
            self.ignored[rows],
            self.weights[rows],
            self.box_weights[rows],
            self.scores[rows],
            None if self.outlines is None else self.outlines[rows],
            None if self.patches is None else self.patches[rows],
        )

    def moved(self, boxes: Floats) -> Objects:
        """The same objects with other `boxes` (k, 4)."""
        return replace(self, boxes=boxes)


def packed(images: Sequence[Objects], *, most: int, group: int = 0, masks: bool = False) -> Floats:
    """The objects of a batch (n, most, 10), by COLUMNS; of more than `most` in an image, the largest count.

    With `masks`, a row goes on with the SIDE * SIDE points of its patch.
    """
    out = np.zeros((len(images), most, len(COLUMNS) + masks * SIDE * SIDE), np.float32)
    out[..., len(COLUMNS) :] = UNKNOWN
    out[..., 8] = group
    for row, objects in zip(out, images, strict=True):
        boxes = objects.boxes
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        kept = objects.at(np.argsort(-area, kind="stable")[:most])
        row[: len(kept), :4] = kept.boxes
        row[: len(kept), 4] = np.where(kept.ignored, IGNORED, OBJECT)
        row[: len(kept), 5] = kept.classes
        row[: len(kept), 6] = kept.weights
        row[: len(kept), 7] = kept.box_weights
        row[: len(kept), 9] = kept.scores
        if masks and kept.patches is not None:
            row[: len(kept), len(COLUMNS) :] = kept.patches.reshape(len(kept), SIDE * SIDE)
    return out
