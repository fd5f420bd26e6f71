"""Labelled images: what a detector answers to them, and whether its boxes and classes mean what they should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from selftrain.autolabeling.boxes.choosing import Held, judged
from selftrain.autolabeling.boxes.formats import (
    OVERLAP,
    BoxFormat,
    Sample,
    as_corners,
    better_format,
    described,
    found_shares,
    overlaps,
)
from selftrain.autolabeling.boxes.user_detector import Answer, UserDetector
from selftrain.autolabeling.folders.found_objects import read_image
from selftrain.autolabeling.folders.sources import ListedImage
from selftrain.data.images.openers import image_bytes
from selftrain.data.sources.objects.coco import read_coco
from selftrain.errors import ConfigError, PredictionError, SourceError
from selftrain.evaluate.average_precision import Boxes
from selftrain.learn.models.predict_files import Unread
from selftrain.naming import name_rows
from selftrain.progress import Progress

Int64s = npt.NDArray[np.int64]
_FEWEST = 5
"""Objects that must be found before a format or a numbering of classes is refused."""
_NOTHING = 0.02
"""The share of the objects below which a detector finds nothing but by chance."""


@dataclass(frozen=True, eq=False)
class LabeledBoxes:
    """The labelled images with the detector's boxes: how many `images`, and `objects` (classes,) of its classes.

    `held` are its boxes that have an area, of the classes that are `labelled` (classes,): no other can be right.
    `format_fits` says that the boxes find objects, read as they were. `warnings` say what the detector's owner should
    know.
    """

    images: int
    objects: Int64s
    labelled: npt.NDArray[np.bool_]
    held: Held
    format_fits: bool
    warnings: tuple[str, ...]


def ask_labeled(
    detector: UserDetector, file: Path, images: Path, form: BoxFormat, *, batch_size: int, progress: Progress
) -> LabeledBoxes:
    """Ask `detector` for the boxes in the labelled images of the COCO `file`, whose names start from `images`.

    Raises PredictionError where another format than `form`, or another numbering of the classes, explains its answers
    far better, or none does. Raises ConfigError where file and detector share no class, and SourceError for a file that
    contradicts itself. Images that cannot be decoded are left out, with a warning.
    """
    labelled = read_coco(file, images=str(images))
    names = detector.class_names
    place = {name: index for index, name in enumerate(names)}
    own = np.array([place.get(name, -1) for name in labelled.label_map.names], np.int64)
    known = np.isin(np.arange(len(names)), own)
    if not known.any():
        raise ConfigError(
            f"{file} has the classes {', '.join(labelled.label_map.names)}, and the detector "
            f"{', '.join(names)}: none is the same; name them alike in class_names"
        )
    first, count = labelled.annotations.spans(labelled.images["name"])
    paths = labelled.images["path"].to_pylist()
    unread: list[str] = []
    samples: list[Sample] = []
    answers: list[Answer] = []
    marked: list[Boxes] = []
    for start in range(0, len(paths), batch_size):
        listed = [ListedImage(path, "", image_bytes) for path in paths[start : start + batch_size]]
        read = [(row, read_image(each)) for row, each in enumerate(listed, start)]
        unread += [f"{each.path} ({each.detail})" for _, each in read if isinstance(each, Unread)]
        pixels = [(row, each) for row, each in read if not isinstance(each, Unread)]
        if pixels:
            answers += detector.answers([each for _, each in pixels], [paths[row] for row, _ in pixels])
        for row, each in pixels:
            rows = np.arange(first[row], first[row] + count[row])
            rows = rows[own[labelled.annotations.labels[rows]] >= 0]
            boxes, crowd = labelled.annotations.boxes[rows], labelled.annotations.crowd[rows]
            marked.append(Boxes.marked(boxes, own[labelled.annotations.labels[rows]], crowd))
            samples.append(Sample(answers[len(samples)].boxes, boxes[~crowd], each.shape[0], each.shape[1]))
        progress(len(answers) + len(unread), len(paths), "labelled images")
    if not answers:
        raise SourceError(f"{file}: none of its {len(paths)} images can be decoded; the first: {unread[0]}")
    shares = found_shares(samples)
    warnings = [
        *_lost(unread),
        *_formats(samples, form, shares),
        *_classes(answers, samples, marked, form, names),
        *_unlabelled(known, names),
    ]
    found = [_found(answer, sample, form, known) for answer, sample in zip(answers, samples, strict=True)]
    objects = np.zeros(len(names), np.int64)
    for there in marked:
        objects += np.bincount(there.classes[~there.crowd], minlength=len(names))
    held = judged(found, marked, classes=len(names))
    return LabeledBoxes(len(answers), objects, known, held, _fits(samples, shares[form]), tuple(warnings))


def _found(answer: Answer, sample: Sample, form: BoxFormat, known: npt.NDArray[np.bool_]) -> Boxes:
    corners = as_corners(answer.boxes, form, height=sample.height, width=sample.width)
    side = np.array([sample.width, sample.height, sample.width, sample.height], np.float32)
    clipped = np.clip(corners, 0, side)
    rows = known[answer.classes] & (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    return Boxes.found(clipped[rows], answer.classes[rows], answer.scores[rows])


def _fits(samples: Sequence[Sample], share: float) -> bool:
    """Whether so many objects are found that the format must be right."""
    return share >= 0.1 and share * sum(len(each.marked) for each in samples) >= _FEWEST


def _formats(samples: Sequence[Sample], form: BoxFormat, shares: dict[BoxFormat, float]) -> list[str]:
    """A warning where no format explains many boxes. Raises PredictionError where another one does, or none any."""
    objects, boxes = sum(len(each.marked) for each in samples), sum(len(each.answered) for each in samples)
    better = better_format(shares, form) if shares and objects * max(shares.values()) >= _FEWEST else None
    if better is not None:
        raise PredictionError(
            f"the boxes seem to be {described(better)}: read so, they find {shares[better]:.0%} of {objects} labelled "
            f"objects; as {described(form)}, {shares[form]:.0%}. Say box_format={better!r}, or convert them"
        )
    best = max(shares.values())
    if objects < _FEWEST or boxes < objects or best >= 0.1:
        return []
    said = (
        f"the boxes find {shares[form]:.0%} of {objects} labelled objects, and no more in any other format: are they "
        "in pixels of the image as it was given, not of one that was made smaller?"
    )
    if best < _NOTHING or best * objects < _FEWEST:
        raise PredictionError(said)
    return [said]


def _classes(
    answers: Sequence[Answer], samples: Sequence[Sample], marked: Sequence[Boxes], form: BoxFormat, names: Sequence[str]
) -> list[str]:
    """A warning where boxes are right and their classes are not. Raises PredictionError where another order fits.

    Of the boxes that find an object, the class of the one with the highest score counts.
    """
    said, true = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for answer, sample, there in zip(answers, samples, marked, strict=True):
        real = there.classes[~there.crowd]
        if not len(answer.boxes) or not len(real):
            continue
        corners = as_corners(answer.boxes, form, height=sample.height, width=sample.width)
        near = overlaps(corners, sample.marked)
        hit = near.max(axis=0) >= OVERLAP
        best = np.where(near >= OVERLAP, answer.scores[:, None], -1.0).argmax(axis=0)
        said.append(answer.classes[best][hit])
        true.append(real[hit])
    shown, real = np.concatenate(said), np.concatenate(true)
    if len(real) < _FEWEST or len(names) < 2:
        return []
    right = float((shown == real).mean())
    for shift in (-1, 1):
        moved = float((shown + shift == real).mean())
        if moved >= 0.7 and moved > 2 * right:
            raise PredictionError(
                f"{right:.0%} of the {len(real)} boxes that find an object name its class, and {moved:.0%} with "
                f"{shift:+d} to each class: classes count from 0, in the order of class_names; correct one of them"
            )
    order = _order(real, shown, len(names))
    if (better := float((order[shown] == real).mean())) >= 0.7 and better > 2 * right:
        moves = [f"{names[k]} is {names[order[k]]}" for k in np.unique(shown) if order[k] != k]
        raise PredictionError(
            f"{right:.0%} of the {len(real)} boxes that find an object name its class, and {better:.0%} in another "
            f"order: {name_rows(moves)}; give class_names in the order of the detector's classes"
        )
    if right < 0.5:
        pairs, often = np.unique(np.stack([real, shown]), axis=1, return_counts=True)
        mixed = np.flatnonzero(pairs[0] != pairs[1])
        first, second = pairs[:, mixed[often[mixed].argmax()]]
        return [
            f"{right:.0%} of the {len(real)} boxes that find an object name its class; most often {names[first]} is "
            f"called {names[second]}: is the order of class_names the detector's?"
        ]
    return []


def _order(real: Int64s, shown: Int64s, count: int) -> Int64s:
    """The class (count,) that each class of the detector most likely is, each once."""
    from scipy.optimize import linear_sum_assignment

    often = np.zeros((count, count))
    np.add.at(often, (shown, real), 1)
    return np.asarray(linear_sum_assignment(often + 1e-3 * np.eye(count), maximize=True)[1], np.int64)


def _lost(unread: list[str]) -> list[str]:
    return (
        [f"{len(unread)} labelled images cannot be decoded, and were left out: {name_rows(unread)}"] if unread else []
    )


def _unlabelled(known: npt.NDArray[np.bool_], names: Sequence[str]) -> list[str]:
    missing = [name for name, labelled in zip(names, known, strict=True) if not labelled]
    if not missing:
        return []
    shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    return [f"the labelled file has no class {shown}: how precise these are was not measured"]
