"""Labelling with a user's detector: ask it for the boxes in the images, and accept those with the score they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from selftrain.autolabeling.boxes.analysis import BoxAnalysis, BoxClassCounts, BoxCounts
from selftrain.autolabeling.boxes.choosing import LOWEST, BoxThreshold, least_scores
from selftrain.autolabeling.boxes.formats import BoxFormat, Shape, as_corners, overlaps
from selftrain.autolabeling.boxes.labeled import LabeledBoxes, ask_labeled
from selftrain.autolabeling.boxes.pictures import Pictures
from selftrain.autolabeling.boxes.user_detector import Answer, UserDetector
from selftrain.config import Fixed
from selftrain.data.sources.objects.coco_writing import FoundObjects
from selftrain.errors import PredictionError, SourceError
from selftrain.learn.models.predict_files import Unread
from selftrain.progress import Progress
from selftrain.selflabel.selection.thresholds import describe_threshold

Floats = npt.NDArray[np.float32]
_DOUBLE = 0.7
"""Boxes of one class that overlap by more are one object."""
_COMPARED = 300
"""The best boxes of a class in an image, which are compared with each other: all pairs of thousands fill the memory."""


@dataclass(frozen=True)
class BoxLabeling:
    """How a call labels: the threshold, the format of the detector's boxes, and how many images it gets at once."""

    threshold: BoxThreshold
    box_format: BoxFormat
    batch_size: int


@dataclass(frozen=True, eq=False)
class _Seen:
    """An image of the pool: its size, and the boxes in it as corners, inside the image."""

    name: str
    height: int
    width: int
    boxes: Floats
    classes: npt.NDArray[np.int64]
    scores: Floats


@dataclass(eq=False)
class _Tally:
    """What was counted while the pool was read."""

    boxes: int = 0
    empty: int = 0


def analyse_boxes(
    detector: UserDetector,
    pictures: Pictures,
    labeled: tuple[Path, Path] | None,
    how: BoxLabeling,
    *,
    progress: Progress,
) -> BoxAnalysis:
    """Label `pictures` with `detector`; `labeled` are a COCO file and the folder of its images.

    Raises PredictionError where the boxes are not what `how` says, and SourceError where no image can be read.
    """
    known = None
    if labeled is not None:
        known = ask_labeled(detector, *labeled, how.box_format, batch_size=how.batch_size, progress=progress)
    tally, shape = _Tally(), Shape()
    sure = known is not None and known.format_fits
    seen, unread = _look(detector, pictures, how, tally=tally, shape=shape, progress=progress, sure=sure)
    if not seen:
        raise SourceError(f"unlabeled: none of {len(unread)} files can be read; the first: {unread[0]}")
    names = detector.class_names
    scores, classes = (np.concatenate([getattr(each, what) for each in seen]) for what in ("scores", "classes"))
    held = None if known is None else known.held
    least, findings = least_scores(how.threshold, names, scores, classes, held)
    if known is not None and how.threshold.kind == "target_precision":
        least = np.where(known.labelled, least, np.float32(np.inf)).astype(np.float32)
    accepted = tuple(_accepted(each, least) for each in seen)
    every = [index for each in accepted for index in each.classes]
    count = len(names)
    taken, predicted = np.bincount(np.array(every, np.int64), minlength=count), np.bincount(classes, minlength=count)
    doubts = [shape.doubtful(how.box_format), _doubled(accepted), *_silent(taken, predicted, names, least)]
    return BoxAnalysis(
        class_names=names,
        box_format=how.box_format,
        called=detector.called,
        threshold=describe_threshold(how.threshold, round_index=1),
        counts=BoxCounts(
            images=len(seen),
            without_boxes=sum(not each.boxes for each in accepted),
            unreadable=len(unread),
            boxes=tally.boxes,
            accepted=len(every),
            empty=tally.empty,
            labeled_images=0 if known is None else known.images,
            labeled_objects=0 if known is None else int(known.objects.sum()),
        ),
        classes={name: _class_counts(index, known, predicted, taken, least) for index, name in enumerate(names)},
        measured=None if held is None else held.measured(least, len(every), len(classes)),
        accepted=accepted,
        root=pictures.root,
        unreadable=tuple(unread),
        warnings=(*(() if known is None else known.warnings), *findings, *(each for each in doubts if each)),
    )


def _look(
    detector: UserDetector,
    pictures: Pictures,
    how: BoxLabeling,
    *,
    tally: _Tally,
    shape: Shape,
    progress: Progress,
    sure: bool,
) -> tuple[list[_Seen], list[tuple[str, str]]]:
    """The boxes in each image that can be read, from the lowest score that may count, and the files that cannot be.

    Boxes are counted in `tally`, and their sizes looked at in `shape`, as images come. `sure` says that labelled images
    have shown the format to be right.
    """
    floor = min(LOWEST, how.threshold.value or 0.0) if isinstance(how.threshold, Fixed) else LOWEST
    if how.threshold.kind == "per_class":
        floor = min(LOWEST, how.threshold.default, *how.threshold.values.values())
    seen: list[_Seen] = []
    unread: list[tuple[str, str]] = []
    for batch in pictures.batches(how.batch_size):
        read = [(each.name, each.pixels) for each in batch if not isinstance(each.pixels, Unread)]
        unread += [(p.path, f"{p.reason}: {p.detail}") for each in batch if isinstance(p := each.pixels, Unread)]
        if not read:
            continue
        answers = detector.answers([pixels for _, pixels in read], [name for name, _ in read])
        for (name, pixels), answer in zip(read, answers, strict=True):
            inside = _inside(name, pixels.shape, answer, form=how.box_format, floor=floor, tally=tally, shape=shape)
            seen.append(inside)
        wrong = None if sure else shape.wrong(how.box_format)
        if wrong is not None:
            raise PredictionError(wrong)
        progress(len(seen) + len(unread), pictures.count or len(seen) + len(unread), "images")
    return seen, unread


def _inside(
    name: str, size: tuple[int, ...], answer: Answer, *, form: BoxFormat, floor: float, tally: _Tally, shape: Shape
) -> _Seen:
    height, width = size[:2]
    corners = as_corners(answer.boxes, form, height=height, width=width)
    shown = (answer.scores >= floor) & (answer.boxes != 0).any(axis=1)
    shape.add(answer.boxes[shown], corners[shown], height=height, width=width)
    clipped = np.clip(corners, 0, np.array([width, height, width, height], np.float32))
    real = np.asarray((clipped[:, 2:] > clipped[:, :2]).all(axis=1))
    tally.boxes += len(real)
    tally.empty += int((~real).sum())
    rows = np.flatnonzero(real & (answer.scores >= floor))
    rows = rows[np.argsort(-answer.scores[rows], kind="stable")]
    return _Seen(name, height, width, clipped[rows], answer.classes[rows], answer.scores[rows])


def _accepted(each: _Seen, least: Floats) -> FoundObjects:
    rows = each.scores >= least[each.classes]
    boxes, classes, scores = each.boxes[rows].tolist(), each.classes[rows].tolist(), each.scores[rows].tolist()
    return FoundObjects(each.name, each.width, each.height, boxes, classes, scores)


def _class_counts(
    index: int,
    known: LabeledBoxes | None,
    predicted: npt.NDArray[np.int64],
    taken: npt.NDArray[np.int64],
    least: Floats,
) -> BoxClassCounts:
    measured = None
    if known is not None and known.labelled[index]:
        measured = known.held.measured(least, int(taken[index]), int(predicted[index]), index)
    return BoxClassCounts(
        labeled=0 if known is None else int(known.objects[index]),
        predicted=int(predicted[index]),
        accepted=int(taken[index]),
        cutoff=float(least[index]),
        measured=measured,
    )


def _doubled(images: Sequence[FoundObjects]) -> str | None:
    """What to say where many accepted boxes overlap another of their class, which a detector should have left out."""
    double = total = 0
    for each in images:
        boxes, classes = np.array(each.boxes, np.float32).reshape(-1, 4), np.array(each.classes, np.int64)
        for name in np.unique(classes):
            some = boxes[classes == name][:_COMPARED]
            near: npt.NDArray[np.bool_] = overlaps(some, some) > _DOUBLE
            np.fill_diagonal(near, val=False)
            double, total = double + int(near.any(axis=1).sum()), total + len(some)
    if double <= 0.1 * total:
        return None
    return (
        f"{double} of {total} accepted boxes that were compared overlap another of their class by more than "
        f"{_DOUBLE:g}: the same objects several times; let the detector suppress them (non-maximum suppression)"
    )


def _silent(
    taken: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], names: Sequence[str], least: Floats
) -> list[str]:
    """The classes that have boxes, and none that was accepted."""
    return [
        f"{name}: none of {predicted[k]} boxes reaches the score {least[k]:.2f}"
        for k, name in enumerate(names)
        if predicted[k] and not taken[k] and np.isfinite(least[k])
    ]
