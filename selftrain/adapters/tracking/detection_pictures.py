"""Pictures of a detector on test: precision and recall, and images with what was found and missed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.data.annotations.table import Annotations
from selftrain.data.manifest import Split
from selftrain.evaluate.average_precision import judge
from selftrain.selflabel.detection.data import DetectionData

if TYPE_CHECKING:
    from selftrain.learn.detection.saving import DetectorContract

SHOWN = 12
UNKNOWN = 0.5
"""The threshold of a class for which validation gave none."""


def draw_detections(data: DetectionData, found: Annotations, contract: DetectorContract, folder: Path) -> None:
    """Draw what a detector `found` on test into `folder`.

    `worst.png` has the images with most mistakes, `others.png` as many, spread over the rest.
    """
    from selftrain.report.detection_charts import judged_image, precision_recall, sheet

    detections, marked, names = data.found(Split.TEST, found), data.marked(Split.TEST), data.class_names
    judged = judge(detections, marked, classes=len(names))
    limits = [contract.thresholds.get(name, UNKNOWN) for name in names]
    each = [judged_image(one, other, limits) for one, other in zip(detections, marked, strict=True)]
    order = sorted(range(len(each)), key=lambda row: -each[row].mistakes)
    rest = order[SHOWN:]
    others = rest[:: max(1, len(rest) // SHOWN)][:SHOWN]
    photos = data.scenes(Split.TEST).images
    precision_recall(judged, names, folder / "precision_recall.png")
    for name, rows in (("worst", order[:SHOWN]), ("others", others)):
        sheet([(each[row], photos[row]) for row in rows], folder / f"{name}.png")
