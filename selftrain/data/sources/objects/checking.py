"""Checking: drawn objects become annotations, clipped to their images; what cannot be used is counted by reason."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selftrain.data.annotations.table import CORNERS, Annotations
from selftrain.data.label_map import LabelMap
from selftrain.data.lists.labels import refuse_two_spellings
from selftrain.data.manifest import LabelSource
from selftrain.data.sources.objects.labelled import DrawnBoxes, DrawnObjects, Fault, LabelledImages
from selftrain.errors import SourceError
from selftrain.naming import ROWS_NAMED, name_rows

FARTHEST = 4.0  # times the image's sides
TOLD = 1.0  # pixels beyond the border that go without saying

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def checked(
    images: pa.Table,
    drawn: DrawnObjects,
    label_map: LabelMap,
    *,
    where: str,
    notes: tuple[str, ...] = (),
    category_ids: tuple[int | str, ...] = (),
) -> LabelledImages:
    """The images (IMAGE_SCHEMA) with those objects that can be used, cut at the image's border.

    An image whose every object is left out is left out too: as one without objects, it would teach them as background.
    `where` names the source in errors. Raises SourceError if there are objects, and none can be used, or all are shares
    of their images' sides.
    """
    refuse_two_spellings(label_map.names)
    sides = np.stack([np.asarray(images["width"]), np.asarray(images["height"])], axis=1).astype(np.float64)
    size = np.tile(sides[drawn.image], 2)  # (n, 4)
    _refuse_shares(drawn.boxes, sides, where)
    faults = _faults(drawn, size)
    kept = np.array([fault is None for fault in faults], bool)
    left_out = Counter(fault for fault in faults if fault is not None)
    if left_out and not kept.any() and set(left_out) != {Fault.OTHER_CLASS}:
        raise SourceError(f"{where}: none of {len(kept)} objects can be used: {_counted(left_out)}; correct the file")
    annotations = _table(images, drawn, _clipped(drawn.boxes, size), np.flatnonzero(kept))
    unsure = _unsure(drawn, faults)
    beyond = np.maximum(-drawn.boxes, drawn.boxes - size).max(axis=1, initial=0) > TOLD
    said = list(notes)
    if left_out:
        said.append(f"{sum(left_out.values())} objects were left out: {_counted(left_out)}")
    if (beyond & kept).any():
        said.append(f"{int((beyond & kept).sum())} boxes reached beyond their image by more than a pixel, and were cut")
    if unsure:
        named = name_rows(images["name"].take(unsure).to_pylist())
        said.append(f"{len(unsure)} images are not used, because all of their objects were left out: {named}")
    built, used = Annotations.build(annotations, label_map), _without(images, unsure)
    result = LabelledImages(used, built, dict(left_out), tuple(said), category_ids)
    told = (*said, *_told(result))
    return LabelledImages(used, built, dict(left_out), told, category_ids, _drawn(images, drawn, sides, label_map))


def _unsure(drawn: DrawnObjects, faults: list[Fault | None]) -> list[int]:
    """The images that hold objects that cannot be used, and none of the classes asked for that can."""
    at = drawn.image.tolist()
    bad = {image for image, fault in zip(at, faults, strict=True) if fault not in (None, Fault.OTHER_CLASS)}
    good = {image for image, fault in zip(at, faults, strict=True) if fault is None}
    return sorted(bad - good)


def _without(images: pa.Table, rows: list[int]) -> pa.Table:
    return images.take(np.setdiff1d(np.arange(images.num_rows), rows)) if rows else images


def _drawn(images: pa.Table, drawn: DrawnObjects, sides: Doubles, label_map: LabelMap) -> DrawnBoxes:
    """How many boxes somebody drew, and how many of them beyond their image."""
    known = (drawn.label >= 0) & np.isfinite(drawn.boxes).all(axis=1)
    size = np.tile(sides[drawn.image], 2)
    rows = np.flatnonzero(known & (np.maximum(-drawn.boxes, drawn.boxes - size).max(axis=1, initial=0) > TOLD))
    examples = []
    for row in rows[:ROWS_NAMED].tolist():
        box = " ".join(f"{value:.0f}" for value in drawn.boxes[row])
        width, height = sides[drawn.image[row]]
        name = images["name"][int(drawn.image[row])].as_py()
        examples.append(f"{label_map.names[drawn.label[row]]} at {box} in {name} of {width:.0f}x{height:.0f} pixels")
    return DrawnBoxes(boxes=int(known.sum()), beyond=len(rows), examples=tuple(examples))


def _refuse_shares(boxes: Doubles, sides: Doubles, where: str) -> None:
    """Raise SourceError where all boxes lie in the first pixel of their images: they are shares of the sides."""
    known = boxes[np.isfinite(boxes).all(axis=1)]
    if len(known) > 1 and known.min() >= 0 and known.max() <= 1 and sides.min() > 1:
        raise SourceError(
            f"{where}: all {len(known)} boxes lie between 0 and 1: they seem to be shares of the image's sides, and "
            "pixels are read here. Multiply them by width and height"
        )


def _counted(left_out: Counter[Fault]) -> str:
    return ", ".join(f"{count} {fault.value}" for fault, count in left_out.most_common())


def _told(found: LabelledImages) -> list[str]:
    """What is right as it is, and still worth saying."""
    notes, names = [], found.label_map.names
    used = np.bincount(found.annotations.labels, minlength=len(names))
    unused = [names[k] for k in np.flatnonzero(used == 0)]
    if unused:
        notes.append(f"{len(unused)} classes have no object: {name_rows(unused)}")
    if found.without_objects:
        notes.append(
            f"{found.without_objects} of {found.images.num_rows} images have no object: they teach what is not one"
        )
    lacking = len(found.annotations.without_full_masks())
    if lacking and found.annotations.has_mask.any():
        notes.append(f"{lacking} images have an object without an outline: they can teach boxes, but no masks")
    return notes


def _faults(drawn: DrawnObjects, size: Doubles) -> list[Fault | None]:
    """The first reason against each object."""
    boxes = drawn.boxes
    missing = np.isnan(boxes).any(axis=1)
    infinite = np.isinf(boxes).any(axis=1)
    far = (np.abs(boxes) > FARTHEST * size).any(axis=1)
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
    gone = (boxes[:, :2] >= size[:, :2]).any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1)
    cut = _clipped(boxes, size)
    thin = (cut[:, 2:] <= cut[:, :2]).any(axis=1)
    rules = (
        (missing, Fault.NO_BOX),
        (infinite, Fault.NOT_FINITE),
        (far, Fault.FAR),
        (empty, Fault.EMPTY_BOX),
        (gone, Fault.OUTSIDE),
        (thin, Fault.EMPTY_BOX),
    )
    faults: list[Fault | None] = [None] * len(boxes)
    for broken, fault in reversed(rules):
        for row in np.flatnonzero(broken).tolist():
            faults[row] = fault
    own = zip(drawn.label.tolist(), drawn.faults, faults, strict=True)
    return [Fault.OTHER_CLASS if label < 0 else found or later for label, found, later in own]


def _clipped(boxes: Doubles, size: Doubles) -> npt.NDArray[np.float32]:
    """(n, 4) the boxes without what lies beyond their images."""
    return np.clip(boxes, 0.0, size).astype(np.float32)


def _table(
    images: pa.Table, drawn: DrawnObjects, boxes: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]
) -> pa.Table:
    names = images["name"].combine_chunks()
    taken = rows.tolist()
    scores = drawn.scores or [None] * len(boxes)
    sources = pa.array([LabelSource.HUMAN.value, LabelSource.PSEUDO.value])
    marks = np.array([scores[row] is not None for row in taken], np.int32)
    given: dict[str, list[object]] = {
        "mask": [drawn.masks[row] for row in taken],
        "annotation_id": [drawn.ids[row] for row in taken],
        "score": [scores[row] for row in taken],
        "teacher": [None if drawn.teachers is None else drawn.teachers[row] for row in taken],
        "round": [None if drawn.rounds is None else drawn.rounds[row] for row in taken],
    }
    types = {"mask": pa.large_binary(), "annotation_id": pa.string(), "score": pa.float32(), "teacher": pa.string()}
    return pa.table(
        {
            "image_id": pa.DictionaryArray.from_arrays(pa.array(drawn.image[rows], pa.int32()), names),
            "label": pa.array(drawn.label[rows], pa.int32()),
            **{name: pa.array(boxes[rows, k]) for k, name in enumerate(CORNERS)},
            "crowd": pa.array(drawn.crowd[rows]),
            "source": pa.DictionaryArray.from_arrays(pa.array(marks), sources),
            **{name: pa.array(values, types.get(name, pa.int16())) for name, values in given.items()},
        }
    )
