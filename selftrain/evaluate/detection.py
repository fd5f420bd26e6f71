"""Evaluation of a detector: COCO's numbers with intervals, and comparisons with other detectors on the same images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from selftrain.config import Metric
from selftrain.errors import ConfigError
from selftrain.evaluate.average_precision import MOST, Boxes, Judged, judge
from selftrain.evaluate.evaluation import Comparison, Facts, Report
from selftrain.evaluate.mask_overlaps import image_size, mask_overlaps, segmentation
from selftrain.evaluate.statistics.intervals import Interval

if TYPE_CHECKING:
    import numpy.typing as npt

DRAWS = 1000
_BY = {"map": None, "ap50": (0,)}
_SIZES = ("all", "small", "medium", "large")  # COCO's: up to 32 x 32 pixels, up to 96 x 96, and larger


class ClassPrecision(Facts):
    """The average precision of one class; None where no test image shows it."""

    name: str
    objects: int
    map: float | None
    ap50: float | None


class Precisions(Facts):
    """COCO's mAP over ten overlaps, and the average precision at an overlap of .5."""

    map: float
    ap50: float

    def metric(self, name: Metric) -> float:
        """The metric called `name` in gates and floors."""
        match name:
            case "map":
                return self.map
            case "ap50":
                return self.ap50
            case _:
                raise ConfigError(f"{name} is a classifier's metric; a detector has map and ap50")


class MaskPrecisions(Precisions):
    """COCO's numbers of the outlines, over `images` with `objects`.

    `interval` is that of `map`, by a bootstrap over these images; older reports lack it.
    """

    images: int
    objects: int
    interval: Interval | None = None


class DetectionReport(Precisions, Report):
    """A detector's numbers on one split, by COCO's rule with at most `most` detections an image and class.

    `interval` is that of `map`, by a bootstrap over images. `by_size` has mAP for objects of COCO's three sizes, where
    there are any. `recall` is the average recall. `masks` are the numbers of the outlines, over the images whose every
    object has one; None of a detector without outlines, or where no image has them.
    """

    objects: int
    most: int
    interval: Interval
    ap75: float
    recall: float
    by_size: dict[str, float]
    per_class: tuple[ClassPrecision, ...]
    masks: MaskPrecisions | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in label order."""
        return tuple(each.name for each in self.per_class)


def evaluate_detector(
    found: Sequence[Boxes],
    marked: Sequence[Boxes],
    *,
    class_names: tuple[str, ...],
    teacher: Sequence[Boxes] | None = None,
    control: Sequence[Boxes] | None = None,
    most: int = MOST,
    alpha: float = 0.05,
    draws: int = DRAWS,
) -> DetectionReport:
    """The report on detections in each image of a split, compared with those of other detectors if given.

    `found`, `teacher` and `control` are of one length with `marked`, what people marked in the same images.
    """
    own = judge(found, marked, classes=len(class_names), most=most)
    sample = own.drawn(None, draws=draws)
    numbers = coco_numbers(found, marked, classes=len(class_names), most=most)

    def against(other: Sequence[Boxes] | None) -> Comparison | None:
        if other is None:
            return None
        return compared(own, judge(other, marked, classes=len(class_names), most=most), alpha=alpha, draws=draws)

    objects = [int(each.marked.sum()) for each in own.classes]
    per_class = zip(class_names, objects, numbers["map_of_class"], numbers["ap50_of_class"], strict=True)
    return DetectionReport(
        images=len(marked),
        objects=sum(objects),
        most=most,
        map=numbers["map"],
        interval=_interval(sample, alpha),
        ap50=numbers["ap50"],
        ap75=numbers["ap75"],
        recall=numbers["recall"],
        by_size=numbers["by_size"],
        per_class=tuple(ClassPrecision(name=n, objects=o, map=m, ap50=a) for n, o, m, a in per_class),
        alpha=alpha,
        comparison=against(teacher),
        control=against(control),
        masks=evaluate_masks(found, marked, classes=len(class_names), most=most, alpha=alpha, draws=draws),
    )


def evaluate_masks(
    found: Sequence[Boxes],
    marked: Sequence[Boxes],
    *,
    classes: int,
    most: int = MOST,
    alpha: float = 0.05,
    draws: int = DRAWS,
) -> MaskPrecisions | None:
    """COCO's numbers of the outlines in those images whose every object has one; None where there are none."""
    rows = [k for k, (own, there) in enumerate(zip(found, marked, strict=True)) if own.outlined and there.outlined]
    objects = sum(int((~marked[k].crowd).sum()) for k in rows)
    if not objects or all(found[k].masks is None for k in rows):
        return None
    some, others = [found[k] for k in rows], [marked[k] for k in rows]
    numbers = coco_numbers(some, others, classes=classes, most=most, of="segm")
    sample = judge(some, others, classes=classes, most=most, overlaps=mask_overlaps).drawn(None, draws=draws)
    return MaskPrecisions(
        map=numbers["map"],
        ap50=numbers["ap50"],
        images=len(rows),
        objects=objects,
        interval=_interval(sample, alpha),
    )


def compared(
    own: Judged, other: Judged, *, metric: Literal["map", "ap50"] = "map", alpha: float = 0.05, draws: int = DRAWS
) -> Comparison:
    """A detector compared with another on the same images, by a bootstrap over images (Efron, 1979).

    Both are read on the same draws. The p-value is twice the smaller share of draws on one side of 0.
    """
    at = _BY[metric]
    one, two = (each.drawn(at, draws=draws) for each in (own, other))
    apart = one - two
    tail = min(int(np.sum(apart <= 0)), int(np.sum(apart >= 0)))
    same = bool(np.all(apart == 0))
    return Comparison(
        metric="mAP" if metric == "map" else "AP50",
        reference=other.mean_precision(at),
        reference_interval=_interval(two, alpha),
        difference=own.mean_precision(at) - other.mean_precision(at),
        difference_interval=_interval(apart, alpha),
        p_value=1.0 if same else min(1.0, 2 * (tail + 1) / (draws + 1)),
        alpha=alpha,
        test="bootstrap over images",
    )


def _interval(sample: npt.NDArray[np.float64], alpha: float) -> Interval:
    low, high = np.quantile(sample, [alpha / 2, 1 - alpha / 2])
    return Interval(float(low), float(high))


def coco_numbers(
    found: Sequence[Boxes],
    marked: Sequence[Boxes],
    *,
    classes: int,
    most: int,
    of: Literal["bbox", "segm"] = "bbox",
) -> dict[str, Any]:
    """mAP, AP50, AP75, recall, by size and by class, as pycocotools computes them; without any detection all are 0.

    `of` says whether boxes or masks are compared; a crowd without a mask is its box.

    Its own summary prints -1 for other limits than 100 detections, so its arrays are read. All ids count from 1: it
    takes an annotation with the id 0 for one that was not found.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    sizes = [image_size(own, there) for own, there in zip(found, marked, strict=True)]
    images = [{"id": k + 1, "height": height, "width": width} for k, (height, width) in enumerate(sizes)]
    names = [{"id": k + 1, "name": str(k)} for k in range(classes)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth, answers = COCO(), COCO()
        truth.dataset = {"images": images, "categories": names, "annotations": _rows(marked, sizes, of)}
        answers.dataset = {"images": images, "categories": names, "annotations": _rows(found, sizes, of)}
        truth.createIndex()
        answers.createIndex()
        evaluation = COCOeval(truth, answers, of)
        evaluation.params.maxDets = [most]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    of_class = [_mean(precision[:, :, k, 0, -1]) for k in range(classes)]
    return {
        "map": _mean(precision[:, :, :, 0, -1]) or 0.0,
        "ap50": _mean(precision[0, :, :, 0, -1]) or 0.0,
        "ap75": _mean(precision[5, :, :, 0, -1]) or 0.0,
        "recall": _mean(recall[:, :, 0, -1]) or 0.0,
        "by_size": {
            name: value
            for k, name in enumerate(_SIZES)
            if k and (value := _mean(precision[:, :, :, k, -1])) is not None
        },
        "map_of_class": of_class,
        "ap50_of_class": [_mean(precision[0, :, k, 0, -1]) for k in range(classes)],
    }


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    """The mean over what is known; pycocotools marks a class without objects by -1."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def _rows(
    images: Sequence[Boxes], sizes: Sequence[tuple[int, int]], of: Literal["bbox", "segm"]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, (each, size) in enumerate(zip(images, sizes, strict=True), 1):
        sides = each.boxes[:, 2:] - each.boxes[:, :2]
        for box, side, name, score, crowd, mask in zip(
            each.boxes.tolist(),
            sides.tolist(),
            each.classes.tolist(),
            each.scores.tolist(),
            each.crowd.tolist(),
            [None] * len(each.boxes) if each.masks is None else each.masks,
            strict=True,
        ):
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": number,
                    "category_id": name + 1,
                    "bbox": [*box[:2], *side],
                    "area": side[0] * side[1],
                    "iscrowd": int(crowd),
                    "score": score,
                }
            )
            if of == "segm":
                rows[-1] |= segmentation(box, mask, size)
    return rows
