"""Label Studio source: boxes, polygons and brush strokes from its JSON export, a list of tasks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selftrain.data.annotations.run_lengths import mask_of
from selftrain.data.label_map import LabelMap
from selftrain.data.sources.objects.brush import painted
from selftrain.data.sources.objects.checking import checked
from selftrain.data.sources.objects.label_studio_tasks import LABELS, Region, Task, class_names, done_task, read_tasks
from selftrain.data.sources.objects.labelled import DrawnObjects, Fault, LabelledImages
from selftrain.data.sources.objects.outlines import Box, outline_of
from selftrain.data.sources.objects.places import image_table
from selftrain.errors import SourceError
from selftrain.naming import name_rows

_NOWHERE: Box = (math.nan,) * 4
_UNEQUAL = 0.02  # of the ratio of an image's sides


@dataclass(frozen=True)
class _Drawn:
    """A region as an object in an image: its box as corners in pixels, its mask, or why it cannot be used."""

    box: Box
    mask: bytes | None = None
    fault: Fault | None = None


def holds_tasks(path: Path) -> bool:
    """Whether the file begins as a list, as Label Studio's export does and COCO's does not."""
    try:
        with path.open("rb") as file:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError:
        return False


def read_label_studio(
    path: Path, *, images: str, classes: Sequence[str] | None = None, split: str | None = None
) -> LabelledImages:
    """The images and objects of Label Studio's JSON export at `path`, whose images lie below the folder `images`.

    - `classes`: the classes to keep, in this order; by default all that are drawn, sorted by name.
    - `split`: what all its images are for, if that is given.

    Of several annotations of a task the one marked as ground truth counts, else the newest; skipped ones do not. A task
    without any is left out; one whose annotation is empty was looked at and holds nothing. An image with an object
    without a class is not used. Predictions are not read.
    Coordinates are percent of the image. A turned box becomes the upright box around it. Polygons, brush strokes and
    ellipses are outlines. Raises SourceError for a file that is not such an export, or contradicts its images.
    """
    where = f"Label Studio's export {str(path)!r}"
    counts: Counter[str] = Counter()
    tasks = [task for each in read_tasks(path, where) if (task := done_task(each, images, where, counts)) is not None]
    if not tasks:
        raise SourceError(f"{where}: none of its tasks has an annotation; label some images first")
    if not any(class_names(each) for task in tasks for each in task.regions):
        raise SourceError(
            f"{where}: no task has an object with a class; {', '.join(LABELS)} are read, other labels are not"
        )
    tasks = [task for task in tasks if task.complete]
    known = sorted({name for task in tasks for each in task.regions for name in class_names(each)})
    if not known:
        raise SourceError(f"{where}: each image with objects has one without a class; give it one, or delete it there")
    for name in classes or ():
        LabelMap(tuple(known)).index(name)
    names = tuple(classes) if classes else tuple(known)
    table, notes = image_table(
        images, [task.name for task in tasks], [None] * len(tasks), where=where, splits=[split] * len(tasks)
    )
    sizes = list(zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True))
    _refuse_other_shapes(tasks, sizes, where)
    rows = [(at, each, name) for at, task in enumerate(tasks) for each in task.regions for name in class_names(each)]
    drawn = [_drawn(each, *sizes[at], counts) for at, each, _ in rows]
    objects = DrawnObjects(
        image=np.array([at for at, _, _ in rows], np.int64),
        label=np.array([names.index(name) if name in names else -1 for _, _, name in rows], np.int64),
        boxes=np.array([each.box for each in drawn], np.float64).reshape(-1, 4),
        masks=[each.mask for each in drawn],
        crowd=np.zeros(len(rows), bool),
        ids=[None if each.get("id") is None else str(each["id"]) for _, each, _ in rows],
        faults=[each.fault for each in drawn],
    )
    said = tuple(f"{count} {what}" for what, count in counts.items())
    return checked(table, objects, LabelMap(names), where=where, notes=(*notes, *said))


def _refuse_other_shapes(tasks: Sequence[Task], sizes: Sequence[tuple[int, int]], where: str) -> None:
    """Raise SourceError for images that had other proportions when they were labelled: turned or cut since."""
    wrong = []
    for task, (width, height) in zip(tasks, sizes, strict=True):
        for each in task.regions[:1]:
            match each.get("original_width"), each.get("original_height"):
                case int() | float() as w, int() | float() as h if w > 0 and h > 0:
                    if abs(w * height / (h * width) - 1) > _UNEQUAL:
                        wrong.append(f"{task.name!r} was {w:g} x {h:g} there and is {width} x {height}")
    if wrong:
        raise SourceError(
            f"{where}: {len(wrong)} images have other proportions: {name_rows(wrong)}; boxes would be in the wrong "
            "place. Give the images that were labelled (turned by their EXIF data?)"
        )


def _drawn(region: Region, width: int, height: int, counts: Counter[str]) -> _Drawn:
    value = region["value"]
    try:
        if "rle" in value:
            return _brush(region, value["rle"], width, height)
        if "points" in value:
            points = [(float(x) * width / 100, float(y) * height / 100) for x, y in value["points"]]
            return _polygon(points, width, height)
        x, y = float(value["x"]) * width / 100, float(value["y"]) * height / 100
        turn = math.radians(float(value.get("rotation") or 0))
        if "radiusX" in value:
            radii = float(value["radiusX"]) * width / 100, float(value["radiusY"]) * height / 100
            return _polygon(_ellipse((x, y), radii, turn), width, height)
        w, h = float(value["width"]) * width / 100, float(value["height"]) * height / 100
    except (KeyError, TypeError, ValueError, OverflowError):
        return _Drawn(_NOWHERE, fault=Fault.NOT_NUMBERS)
    if not turn:
        return _Drawn((x, y, x + w, y + h))
    counts["boxes are turned: the upright boxes around them are taken"] += 1
    corners = [_turned((a, b), turn) for a, b in ((0, 0), (w, 0), (w, h), (0, h))]
    xs, ys = [x + a for a, _ in corners], [y + b for _, b in corners]
    return _Drawn((min(xs), min(ys), max(xs), max(ys)))


def _turned(point: tuple[float, float], angle: float) -> tuple[float, float]:
    """A point, in pixels from the corner or centre that an object is turned around, clockwise."""
    x, y = point
    return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)


def _ellipse(centre: tuple[float, float], radii: tuple[float, float], turn: float) -> list[tuple[float, float]]:
    steps = [2 * math.pi * k / 48 for k in range(48)]
    around = [_turned((radii[0] * math.cos(step), radii[1] * math.sin(step)), turn) for step in steps]
    return [(centre[0] + x, centre[1] + y) for x, y in around]


def _polygon(points: Sequence[tuple[float, float]], width: int, height: int) -> _Drawn:
    outline = outline_of([[value for point in points for value in point]], width=width, height=height)
    return _Drawn(outline.box or _NOWHERE, outline.mask, outline.fault)


def _brush(region: Region, runs: list[int], width: int, height: int) -> _Drawn:
    """A brush stroke; its run lengths are of the image as it was labelled, which must be that of the file."""
    if (region.get("original_width"), region.get("original_height")) != (width, height):
        return _Drawn(_NOWHERE, fault=Fault.RLE_SIZE)
    try:
        pixels = painted(runs, height=height, width=width)
    except ValueError:
        return _Drawn(_NOWHERE, fault=Fault.RLE_COUNTS)
    rows, columns = np.nonzero(pixels)
    if not len(rows):
        return _Drawn(_NOWHERE, fault=Fault.EMPTY_BOX)
    box = float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)
    return _Drawn(box, mask_of(pixels))
