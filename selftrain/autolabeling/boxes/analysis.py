"""The result of `autolabel_boxes`: the accepted boxes with their scores, counts, measured precision and warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from selftrain.autolabeling.boxes.formats import BoxFormat
from selftrain.data.sources.objects.coco_writing import FoundObjects, write_coco
from selftrain.errors import ConfigError
from selftrain.evaluate.coverage import MeasuredPrecision
from selftrain.files.places import user_path


@dataclass(frozen=True)
class BoxCounts:
    """How many images and boxes there were.

    Of the `boxes` that the detector gave for `images`, `accepted` were accepted; `empty` ones have no area within their
    image. `without_boxes` images have no accepted box. `unreadable` files are not among `images`. `labeled_images`
    with `labeled_objects` were there to judge the detector.
    """

    images: int
    without_boxes: int
    unreadable: int
    boxes: int
    accepted: int
    empty: int
    labeled_images: int
    labeled_objects: int


@dataclass(frozen=True)
class BoxClassCounts:
    """One class: labelled objects, boxes that the detector gave and that were accepted, and its cutoff (0-1).

    `predicted` boxes have an area and a score of .05, or of the lowest threshold if that is below. A
    `cutoff` is infinite where no score was precise enough. `measured` is the precision on the labelled images.
    """

    labeled: int
    predicted: int
    accepted: int
    cutoff: float
    measured: MeasuredPrecision | None


@dataclass(frozen=True, eq=False)
class BoxAnalysis:
    """What `selftrain.autolabel_boxes` returns.

    `accepted` has an entry for each image that could be read, also for one without an accepted box: its name, width and
    height, `boxes` (k, 4) as x0, y0, x1, y1 in its pixels, `classes` (k,) and `scores` (k,). `root` is the folder that
    names start from; None for arrays, which are called 000000.png and so on. `threshold` is the rule in words,
    `measured` the precision over all classes. `unreadable` names files and why.
    """

    class_names: tuple[str, ...]
    box_format: BoxFormat
    called: str
    threshold: str
    counts: BoxCounts
    classes: Mapping[str, BoxClassCounts]
    measured: MeasuredPrecision | None
    accepted: tuple[FoundObjects, ...]
    root: str | None
    unreadable: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_coco(self, path: str | Path) -> Path:
        """Write the accepted boxes to the new COCO file `path`, each with its score and as a pseudo-label.

        Raises ConfigError where the file exists.
        """
        place = user_path(path)
        if place.exists():
            raise ConfigError(f"{place} exists, and was left as it is; give another name")
        place.parent.mkdir(parents=True, exist_ok=True)
        write_coco(place, self.accepted, self.class_names, teacher=self.called)
        return place
