"""Charts of a detector: precision and recall per class, and test images with what was found, missed and made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from selftrain.evaluate.average_precision import Boxes, Judged
from selftrain.report.drawing import BLUE, GREY, LONGEST_NAME, ORANGE, figure, percent_axis, plain, title

MOST_CLASSES = 12  # in one chart; those with most objects
SIDE = 320  # pixels of an image on a sheet
GREEN = "#009E73"


@dataclass(frozen=True, eq=False)
class JudgedImage:
    """An image with its detections above the threshold: boxes (k, 4) that are right, wrong, and missed."""

    right: npt.NDArray[np.float32]
    wrong: npt.NDArray[np.float32]
    missed: npt.NDArray[np.float32]

    @property
    def mistakes(self) -> int:
        """Boxes that are wrong or missed."""
        return len(self.wrong) + len(self.missed)


def precision_recall(judged: Judged, class_names: Sequence[str], path: Path) -> Path:
    """Draw precision over recall at an overlap of .5, a line per class. A PNG at `path`."""
    order = sorted(range(len(class_names)), key=lambda k: -int(judged.classes[k].marked.sum()))[:MOST_CLASSES]
    with figure(path, width=6.4, height=4.0) as drawn:
        axes = drawn.subplots()
        for k in order:
            of_class = judged.classes[k]
            if not of_class.marked.sum():
                continue
            recall, precision = of_class.curve(0)
            name = plain(class_names[k])[:LONGEST_NAME]
            axes.plot(recall, precision, label=f"{name}  AP50 {of_class.precision(0, None):.2f}", linewidth=1.5)
        axes.set(xlabel="objects found (recall)", ylabel="right ones among the detections (precision)")
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis)
        axes.legend(loc="lower left")
        title(drawn, "each point is a threshold: a lower one finds more, and is right less often")
    return path


def judged_image(found: Boxes, marked: Boxes, thresholds: Sequence[float]) -> JudgedImage:
    """The detections above their class's threshold, and which objects of an image they leave out."""
    kept = found.scores >= np.asarray(thresholds, np.float32)[found.classes]
    right, wrong, missed = [], [], []
    for label in range(len(thresholds)):
        mine, there = kept & (found.classes == label), (marked.classes == label) & ~marked.crowd
        free = list(marked.boxes[there])
        rows = np.flatnonzero(mine)
        for row in rows[np.argsort(-found.scores[rows], kind="stable")]:
            box = found.boxes[row]
            fits = [_overlap(box, each) for each in free]
            if fits and max(fits) >= 0.5:
                free.pop(int(np.argmax(fits)))
                right.append(box)
            else:
                wrong.append(box)
        missed += free
    return JudgedImage(_array(right), _array(wrong), _array(missed))


def sheet(images: Sequence[tuple[JudgedImage, npt.NDArray[np.uint8]]], path: Path, *, columns: int = 4) -> Path:
    """Draw images (h, w, 3) beside each other: right boxes green, wrong ones orange, missed objects blue.

    A PNG at `path`; of no image, none is written.
    """
    if not images:
        return path
    rows = -(-len(images) // columns)
    high = max(round(SIDE * pixels.shape[0] / max(pixels.shape[:2])) for _, pixels in images) + 26
    canvas = Image.new("RGB", (columns * (SIDE + 8) + 8, rows * high + 30), "white")
    draw = ImageDraw.Draw(canvas)
    x = 8
    for text, colour in (("found", GREEN), ("not there", ORANGE), ("missed", BLUE)):
        draw.rectangle((x, 9, x + 12, 21), fill=colour)
        draw.text((x + 17, 9), text, fill="black")
        x += 100
    for k, (judged, pixels) in enumerate(images):
        left, top = 8 + (k % columns) * (SIDE + 8), 30 + (k // columns) * high
        scale = SIDE / max(pixels.shape[:2])
        small = Image.fromarray(pixels).resize([max(1, round(side * scale)) for side in pixels.shape[1::-1]])
        on = ImageDraw.Draw(small)
        for boxes, colour in ((judged.missed, BLUE), (judged.wrong, ORANGE), (judged.right, GREEN)):
            for x0, y0, x1, y1 in (boxes * scale).tolist():
                on.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=2)
        canvas.paste(small, (left, top))
        said = f"{len(judged.right)} found, {len(judged.wrong)} not there, {len(judged.missed)} missed"
        draw.text((left, top + small.height + 4), said, fill=GREY)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path)
    return path


def _overlap(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    both = float(np.prod(np.maximum(sides, 0)))
    areas = [float(np.prod(np.maximum(each[2:] - each[:2], 0))) for each in (one, other)]
    return both / max(sum(areas) - both, 1e-12)


def _array(boxes: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    return np.asarray(boxes, np.float32).reshape(-1, 4)
