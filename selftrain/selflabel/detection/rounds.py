"""Rounds of a detector's run: what the gate, the guards and the record of a run read."""

from __future__ import annotations

from selftrain.config import Gate
from selftrain.data.manifest import Manifest, Split
from selftrain.learn.detection.saving import SavedDetector
from selftrain.selflabel.detection.work import DetectorScores, Taught
from selftrain.selflabel.rounds.alarms import Alarm
from selftrain.selflabel.rounds.history import History, Round


def detector_round(
    index: int,
    manifest: Manifest,
    detector: SavedDetector,
    scores: DetectorScores,
    gate: Gate,
    taught: Taught | None = None,
) -> Round:
    """Round `index`: the first teacher is 0; later ones are students that Unbiased Teacher `taught`."""
    finding = scores.why
    if taught is not None:
        finding = f"the teacher was sure of {taught.kept:.1f} boxes a view; people marked {taught.marked:.1f}"
    return Round(
        index=index,
        backbone=detector.contract.backbone,
        labeled=len(manifest.rows(Split.TRAIN)),
        pool=len(manifest.rows(Split.UNLABELED)),
        validation_accuracy=scores.metric(gate.metric),
        validation_metric=scores.metric(gate.metric),
        validation_images=scores.images,
        findings=(finding,),
        seconds=detector.contract.seconds,
        image_steps=detector.contract.image_steps,
        model_digest=detector.digest,
        method="unbiased_teacher" if index else None,
    )


def with_student(history: History, gate: Gate, finished: Round, taught: Taught) -> History:
    """`history` with a student's round, and the guards' alarms about the boxes that taught it."""
    rung = tuple(
        Alarm(
            guard="few_boxes" if kind == "few_boxes" else "many_boxes",
            round=finished.index,
            value=taught.kept,
            limit=taught.marked,
            reason=why,
            action="warn",
        )
        for kind, why in taught.alarms
    )
    return history.with_alarms(rung).with_round(finished, target=gate.target)


def if_ready(history: History, scores: DetectorScores) -> History:
    """`history`, stopped where the teacher with these `scores` may not teach."""
    if scores.thresholds is not None:
        return history
    coming = len(history.rounds)
    reason = f"the teacher may not teach yet: {scores.why}; label more images, or train it for longer"
    alarm = Alarm(guard="not_ready", round=coming, value=scores.ap50, limit=1.0, reason=reason, action="stop")
    return history.with_alarms((alarm,))
