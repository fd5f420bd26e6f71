"""The loss of a detector: which location answers for which object, focal loss on classes, GIoU on boxes."""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from selftrain.learn.shapes.boxes import Grid, decoded, generalized_overlap, overlap
from selftrain.learn.shapes.objects import COLUMNS, IGNORED, OBJECT
from selftrain.learn.shapes.outlines import sampled

_FOCUS = 2.0  # gamma of focal loss, arXiv:1708.02002
_FAR = 1e9
_MASKS = 16  # of an image whose masks are looked at in a step; the best locations first


class Targets(NamedTuple):
    """What each location is to answer: `objects` (n, l, 10) is the row of the object it answers for, if it is
    `positive` (n, l); `counts` (n, l) is false inside an ignored box and outside every object. `chosen` (n, l) is the
    position of that row.
    """

    objects: keras.KerasTensor
    positive: keras.KerasTensor
    counts: keras.KerasTensor
    chosen: keras.KerasTensor


def assigned(objects: keras.KerasTensor, where: Grid, tops: tuple[float, ...]) -> Targets:
    """The targets of `objects` (n, m, 10), packed by `objects.COLUMNS`, for the locations `where`.

    A location answers for an object whose centre is less than a stride away and whose longer side belongs to its level:
    above the level's predecessor in `tops`, up to its own. Of several objects the smallest counts (as in FCOS,
    arXiv:1904.01355). An object thus has positives however small it is.
    """
    low, high = _ranges(where, tops)
    boxes, kind = objects[:, None, :, :4], objects[:, None, :, 4]  # (n, 1, m, ...)
    sides = boxes[..., 2:] - boxes[..., :2]
    longer, area = ops.max(sides, axis=-1), sides[..., 0] * sides[..., 1]
    away = ops.abs((boxes[..., :2] + boxes[..., 2:]) / 2 - where.centres[:, None])  # (n, l, m, 2)
    near = ops.max(away, axis=-1) < where.strides[:, None]
    fits = (longer > low[:, None]) & (longer <= high[:, None])
    cost = ops.where(near & fits & (kind == OBJECT), area, _FAR)  # (n, l, m)
    chosen = ops.argmin(cost, axis=-1)
    positive = ops.min(cost, axis=-1) < _FAR
    point = where.centres[:, None]
    inside = ops.all((point > boxes[..., :2]) & (point < boxes[..., 2:]), axis=-1)
    ignored = ops.any(inside & (kind == IGNORED), axis=-1)
    rows = ops.take_along_axis(objects[..., : len(COLUMNS)], chosen[..., None], axis=1)
    return Targets(rows, positive, positive | ~ignored, chosen)


def _ranges(where: Grid, tops: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The shortest and longest side (l,) that each location answers for."""
    levels = {stride: level for level, stride in enumerate(sorted(set(where.strides.tolist())))}
    level = np.asarray([levels[stride] for stride in where.strides.tolist()])
    bottoms = np.asarray([0.0, *tops[:-1]], np.float32)
    return bottoms[level], np.asarray([*tops[:-1], np.inf], np.float32)[level]


def detection_loss(
    objects: keras.KerasTensor,
    answers: keras.KerasTensor,
    where: Grid,
    tops: tuple[float, ...],
    prototypes: keras.KerasTensor | None = None,
) -> keras.KerasTensor:
    """The loss of a batch: the sum over its halves, labelled and not, of the loss per positive location, in float32.

    Pseudo-labels miss objects, so the unlabelled half's classes count as if it had at least as many positives as the
    labelled one. Else its background would weigh the more, the fewer objects a teacher finds: the teacher would then
    find fewer still.

    `objects` (n, m, 10) are packed as in `objects.packed`; `answers` (n, l, classes + 4) are the network's. The class
    target of a location is the overlap of its box with the object's (quality focal loss, arXiv:2006.04388). For a
    pseudo-label it is the teacher's score, which is what that teacher expects of the overlap. With `prototypes`
    (n, h, w, p), the first p answers of a location mix them to its mask: see `mask_loss`.
    """
    targets = assigned(objects, where, tops)
    answers, mask = ops.cast(answers, "float32"), 0.0
    if prototypes is not None:
        mixed = prototypes.shape[-1]
        mask = mask_loss(objects, answers[..., :mixed], prototypes, where, targets)
        answers = answers[..., mixed:]
    logits, boxes = answers[..., :-4], decoded(answers[..., -4:], where)
    rows, positive = targets.objects, ops.cast(targets.positive, "float32")
    overlaps = ops.stop_gradient(ops.clip(overlap(boxes, rows[..., :4]), 0.0, 1.0))
    quality = ops.where(rows[..., 9] > 0, rows[..., 9], overlaps) * positive
    aim = ops.one_hot(ops.cast(rows[..., 5], "int32"), logits.shape[-1]) * quality[..., None]
    weight = ops.where(targets.positive, rows[..., 6], 1.0) * ops.cast(targets.counts, "float32")
    named = ops.sum(_quality_focal(logits, aim), axis=-1) * weight
    placed = (1.0 - generalized_overlap(boxes, rows[..., :4])) * positive * rows[..., 7]
    halves = objects[:, 0, 8]
    human, other = (ops.cast(halves == group, "float32")[:, None] for group in (0.0, 1.0))
    found = ops.sum(human * positive * rows[..., 6])
    many, more = ops.maximum(found, 1.0), ops.maximum(ops.maximum(found, ops.sum(other * positive * rows[..., 6])), 1.0)
    total = ops.sum(human * named) / many + ops.sum(other * named) / more
    for half in (human, other):
        total = total + ops.sum(half * placed) / ops.maximum(ops.sum(half * positive * rows[..., 7]), 1.0)
    return total + mask


def mask_loss(
    objects: keras.KerasTensor, answers: keras.KerasTensor, prototypes: keras.KerasTensor, where: Grid, targets: Targets
) -> keras.KerasTensor:
    """Cross-entropy at SIDE x SIDE points of the object's box, as a mean over points and over locations.

    Of each image, up to _MASKS locations of objects with a mask count, others in each view. `answers` (n, l, p) mix
    `prototypes` (n, h, w, p); `objects` (n, m, 10 + SIDE * SIDE) have the patches of `objects.packed`.
    """
    stride = int(where.strides.min())
    drawn = objects[..., len(COLUMNS)] >= 0
    known = ops.cast(ops.take_along_axis(drawn, targets.chosen, axis=1) & targets.positive, "float32")
    best, at = ops.top_k(known * (1.0 + _shuffled(targets.objects[..., :4], where)), _MASKS)
    mixture = ops.take_along_axis(answers, at[..., None], axis=1)  # (n, k, p)
    row = ops.take_along_axis(targets.chosen, at, axis=1)[..., None]
    aim = ops.take_along_axis(objects[..., len(COLUMNS) :], row, axis=1)
    boxes = ops.take_along_axis(objects[..., :4], row, axis=1)
    maps = ops.einsum("nhwp,nkp->nkhw", prototypes, mixture)
    logits = sampled(maps, boxes, stride)
    entropy = ops.relu(logits) - logits * aim + ops.log1p(ops.exp(-ops.abs(logits)))
    counts = ops.cast(best > 0, "float32")
    return ops.sum(ops.mean(entropy, axis=-1) * counts) / ops.maximum(ops.sum(counts), 1.0)


def _shuffled(boxes: keras.KerasTensor, where: Grid) -> keras.KerasTensor:
    """Numbers in 0-1 (n, l) without order, the same for the same boxes (n, l, 4): a resumed training draws alike."""
    mixed = ops.sum(boxes, axis=-1) * 12.9898 + (where.centres[:, 0] * 78.233 + where.centres[:, 1] * 37.719)
    wave = ops.sin(mixed) * 43758.5453
    return wave - ops.floor(wave)


def _quality_focal(logits: keras.KerasTensor, aim: keras.KerasTensor) -> keras.KerasTensor:
    """Cross-entropy with the soft target `aim`, weighted by the squared distance from it."""
    apart = ops.abs(aim - ops.sigmoid(logits))
    entropy = ops.relu(logits) - logits * aim + ops.log1p(ops.exp(-ops.abs(logits)))
    return apart**_FOCUS * entropy
