"""COCO source: boxes and masks from one JSON file and a folder of images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from selftrain.data.label_map import LabelMap
from selftrain.data.sources.objects.checking import checked
from selftrain.data.sources.objects.coco_file import CocoFile, Entry, file_name_of, read_coco_file, size_of
from selftrain.data.sources.objects.labelled import DrawnObjects, Fault, LabelledImages
from selftrain.data.sources.objects.outlines import (
    Box,
    Outline,
    box_around,
    outline_of,
    share_inside,
    turn_of,
    turned_said,
)
from selftrain.data.sources.objects.places import image_table
from selftrain.errors import SourceError

Doubles = npt.NDArray[np.float64]
_ENOUGH, _BEYOND = 10, 0.05  # boxes, and the share of them that shows another format
_FAR = 1e9  # pixels
_INSIDE = 0.5
"""The share of an outline's box that must lie in `bbox`; a box may be larger, around what cannot be seen."""
_ROBOFLOW = re.compile(r"(?P<name>.+)\.rf\.[0-9A-Za-z]{8,}\.\w+$")


def read_coco(
    path: Path, *, images: str, classes: Sequence[str] | None = None, split: str | None = None
) -> LabelledImages:
    """The images and objects of the COCO file at `path`, whose file names start from the folder `images`.

    - `classes`: the classes to keep, in this order; by default all, in the order of their ids.
    - `split`: what all its images are for, if that is given.

    All images of the file count as looked at: one without annotations teaches what is not an object. Images that only
    lie in the folder are not labelled. Raises SourceError for a file that contradicts itself or its images.
    """
    file = read_coco_file(path)
    names, labels = _chosen(file, classes)
    files = [file_name_of(each, file.where) for each in file.images]
    sizes = [size_of(each, file.where) for each in file.images]
    groups = [source_of(name) for name in files]
    splits = [split] * len(files)
    table, notes = image_table(images, files, sizes, where=file.where, splits=splits, groups=groups)
    widths, heights = table["width"].to_pylist(), table["height"].to_pylist()
    outlines = [
        outline_of(each.get("segmentation"), width=widths[image], height=heights[image])
        for each, image in zip(file.annotations, file.image_of, strict=True)
    ]
    _refuse_corners(file, widths, heights)
    drawn = _drawn(file, labels, outlines)
    return checked(
        table,
        drawn,
        LabelMap(names),
        where=file.where,
        notes=(*file.notes, *notes, *_untold_scores(file), *_left_open_noted(file), *_turned_noted(file, outlines)),
        category_ids=tuple(file.category_ids[file.names.index(name)] for name in names),
    )


def _chosen(file: CocoFile, classes: Sequence[str] | None) -> tuple[tuple[str, ...], list[int]]:
    """The class names, and for each category of the file its label; -1 for one that was not asked for."""
    if classes is None:
        return file.names, list(range(len(file.names)))
    for name in classes:
        LabelMap(file.names).index(name)
    return tuple(classes), [classes.index(name) if name in classes else -1 for name in file.names]


def source_of(name: str) -> str | None:
    """The photo of which Roboflow made `name`: its turned and tinted copies belong to one side of a split.

    >>> source_of("cell_jpg.rf.0123456789abcdef.jpg"), source_of("cell.jpg")
    ('cell_jpg', None)
    """
    found = _ROBOFLOW.match(name)
    return found["name"] if found else None


def _drawn(file: CocoFile, labels: list[int], outlines: list[Outline]) -> DrawnObjects:
    boxes, faults = _boxes(file.annotations, outlines)
    ids = [each.get("id") for each in file.annotations]
    return DrawnObjects(
        image=np.array(file.image_of, np.int64),
        label=np.array([labels[category] for category in file.category_of], np.int64),
        boxes=boxes,
        masks=[each.mask for each in outlines],
        crowd=np.array([_is_left_open(each) for each in file.annotations], bool),
        ids=[None if value is None else str(value) for value in ids],
        faults=[outline.fault or fault for outline, fault in zip(outlines, faults, strict=True)],
        scores=[_score(each) for each in file.annotations] if file.ours else None,
        teachers=[_teacher(each) for each in file.annotations] if file.ours else None,
        rounds=[_round(each) for each in file.annotations] if file.ours else None,
    )


def _refuse_corners(file: CocoFile, widths: list[int], heights: list[int]) -> None:
    """Raise SourceError where each `bbox` fits as two corners, and some do not as corner, width and height."""
    boxes = [each.get("bbox") for each in file.annotations]
    rows = [row for row, box in enumerate(boxes) if _is_four(box)]
    if len(rows) < _ENOUGH:
        return
    given = np.array([boxes[row] for row in rows], np.float64)
    size = np.array([(widths[file.image_of[row]], heights[file.image_of[row]]) for row in rows], np.float64)
    beyond = (given[:, :2] + given[:, 2:] > size + 1).any(axis=1)
    are_corners = (given[:, 2:] >= given[:, :2]).all() and (given[:, 2:] <= size + 1).all()
    if are_corners and beyond.mean() >= _BEYOND:
        raise SourceError(
            f"{file.where}: {int(beyond.sum())} of {len(rows)} boxes reach beyond their images, and all fit as two "
            "corners (x0, y0, x1, y1): 'bbox' holds x, y, width and height in COCO. Write x1 - x0 and y1 - y0 there"
        )


def _is_four(box: object) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(each, int | float) and abs(each) < _FAR for each in box)
    )


def _is_left_open(annotation: Entry) -> bool:
    """Whether an object neither teaches nor counts: a crowd, or one with the mark that converters of VOC leave."""
    return any(annotation.get(key) in (1, "1", True) for key in ("iscrowd", "ignore"))


def _left_open_noted(file: CocoFile) -> tuple[str, ...]:
    crowds = sum(each.get("iscrowd") in (1, "1") for each in file.annotations)
    others = sum(map(_is_left_open, file.annotations)) - crowds
    named = ((crowds, "crowds (iscrowd)"), (others, "marked with `ignore`"))
    return tuple(
        f"{count} objects are {kind}: they neither teach nor count as missed" for count, kind in named if count
    )


def _turn_of(annotation: Entry) -> float:
    """By how many radians the rectangle `bbox` is turned around its centre."""
    attributes = annotation.get("attributes")
    return turn_of(attributes.get("rotation")) if isinstance(attributes, dict) else 0.0


def _turned_noted(file: CocoFile, outlines: list[Outline]) -> tuple[str, ...]:
    turned = sum(bool(_turn_of(each)) and own.box is None for each, own in zip(file.annotations, outlines, strict=True))
    return (turned_said(turned),) if turned else ()


def _boxes(annotations: list[Entry], outlines: list[Outline]) -> tuple[Doubles, list[Fault | None]]:
    """(n, 4) x0, y0, x1, y1, from `bbox` or around the outline; NaN where there is neither."""
    faults: list[Fault | None] = [None] * len(annotations)
    rows: list[Box] = []
    for k, (each, outline) in enumerate(zip(annotations, outlines, strict=True)):
        match each.get("bbox"):
            case [int() | float() as x, int() | float() as y, int() | float() as w, int() | float() as h]:
                turn = 0.0 if outline.box else _turn_of(each)
                corners = _corners(x, y, w, h)
                rows.append(box_around(corners, turn) if turn and np.isfinite(corners).all() else corners)
                if outline.box and share_inside(outline.box, corners) < _INSIDE:
                    faults[k] = Fault.APART
            case None | []:
                rows.append(outline.box or (np.nan,) * 4)
            case _:
                rows.append((np.nan,) * 4)
                faults[k] = Fault.NOT_NUMBERS
    return np.array(rows, np.float64).reshape(-1, 4), faults


def _corners(x: float, y: float, w: float, h: float) -> Box:
    """The corners of a box; infinite where a number is too large for a float."""
    try:
        box = float(x), float(y), float(x) + float(w), float(y) + float(h)
    except OverflowError:
        return (np.inf,) * 4
    return box if np.isfinite(box).all() else (np.inf,) * 4


def _score(annotation: Entry) -> float | None:
    score = annotation.get("score")
    return float(score) if annotation.get("source") == "pseudo" and isinstance(score, int | float) else None


def _teacher(annotation: Entry) -> str | None:
    teacher = annotation.get("teacher")
    return teacher if _score(annotation) is not None and isinstance(teacher, str) else None


def _round(annotation: Entry) -> int | None:
    number = annotation.get("round")
    return number if _score(annotation) is not None and isinstance(number, int) else None


def _untold_scores(file: CocoFile) -> tuple[str, ...]:
    scored = 0 if file.ours else sum("score" in each for each in file.annotations)
    return (f"{scored} annotations have a score, which is not used: they count as drawn by people",) if scored else ()
