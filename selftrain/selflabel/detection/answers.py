"""Answers: what detectors find in the images of a split, their report on test, and how they compare there."""

from __future__ import annotations

from selftrain.data.annotations.table import Annotations
from selftrain.data.manifest import Split
from selftrain.evaluate.average_precision import Boxes, judge
from selftrain.evaluate.detection import DetectionReport, compared, evaluate_detector
from selftrain.evaluate.evaluation import Comparison
from selftrain.learn.detection.saving import SavedDetector
from selftrain.learn.models import divergence
from selftrain.progress import Progress, silent
from selftrain.selflabel.detection.data import DetectionData

LOWEST_SCORE = 0.02
"""Of the detections that are judged."""


def report_on_test(
    data: DetectionData, final: SavedDetector, teacher: SavedDetector, control: SavedDetector | None
) -> tuple[DetectionReport, Annotations]:
    """The report on `final` on test, compared with the others on the same images: one test-set evaluation each.

    Beside it, what `final` found there. A control that diverged is not compared; the report says why it diverged.
    """
    why = None if control is None else divergence.reason(control)
    known: dict[str, list[Boxes]] = {}

    def answers(detector: SavedDetector | None) -> list[Boxes] | None:
        if detector is not None and detector.digest not in known:
            known[detector.digest] = detections(data, detector, Split.TEST)
        return None if detector is None else known[detector.digest]

    found = answers(final) or []
    report = evaluate_detector(
        found,
        data.marked(Split.TEST),
        class_names=data.class_names,
        teacher=answers(teacher),
        control=answers(control if why is None else None),
    ).model_copy(update={"control_diverged": why})
    return report, data.as_annotations(Split.TEST, found, teacher=final.contract.identity)


def compare_on_test(data: DetectionData, detector: SavedDetector, reference: SavedDetector) -> Comparison:
    """`detector` compared with `reference` on the same test images: one test-set evaluation each."""
    marked, classes = data.marked(Split.TEST), len(data.class_names)
    asked = (detections(data, each, Split.TEST, outlines=False) for each in (detector, reference))
    own, other = (judge(found, marked, classes=classes) for found in asked)
    return compared(own, other)


def detections(
    data: DetectionData, detector: SavedDetector, split: Split, *, outlines: bool = True, progress: Progress = silent
) -> list[Boxes]:
    """What `detector` finds in each image of a split, in its own pixels; its masks only where they are asked for."""
    from selftrain.learn.detection.detect import Choice

    asked = detector.open(Choice(score=LOWEST_SCORE, longest=detector.contract.longest, outlines=outlines))
    found = asked(data.scenes(split).images, progress=progress)
    return [Boxes.found(each.boxes, each.classes, each.scores, each.masks) for each in found]
