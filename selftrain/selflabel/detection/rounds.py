"""Rounds of a detector's run: what the gate, the guards and the record of a run read."""

from __future__ import annotations

import math
from typing import Literal

from selftrain.config import Detection, DetectionMethod, Gate
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
    method: DetectionMethod | None = None,
) -> Round:
    """Round `index`: the first teacher is 0; later ones are students that `method` `taught`."""
    finding, diverged = scores.why, None
    reached = scores.metric(gate.metric)
    if taught is not None:
        finding = f"the teacher was sure of {taught.kept:.1f} boxes a view; people marked {taught.marked:.1f}"
        diverged = taught.diverged
    return Round(
        index=index,
        backbone=detector.contract.backbone,
        labeled=len(manifest.rows(Split.TRAIN)),
        pool=len(manifest.rows(Split.UNLABELED)),
        validation_accuracy=math.nan if diverged else reached,
        validation_metric=math.nan if diverged else reached,
        validation_images=scores.images,
        findings=() if diverged else (finding,),
        seconds=detector.contract.seconds,
        image_steps=detector.contract.image_steps,
        model_digest=detector.digest,
        method=method if index else None,
        diverged=diverged,
    )


def with_student(history: History, gate: Gate, finished: Round, taught: Taught, settings: Detection) -> History:
    """`history` with a student's round, and the guards' alarms about the boxes that taught it."""
    rung = tuple(
        Alarm(
            guard="few_boxes" if kind == "few_boxes" else "many_boxes",
            round=finished.index,
            value=taught.kept,
            limit=taught.marked * (settings.fewest_boxes if kind == "few_boxes" else settings.most_boxes),
            reason=why,
            action="warn",
        )
        for kind, why in taught.alarms
    )
    return history.with_alarms(rung).with_round(finished, target=gate.target)


def if_it_can_go_on(history: History, scores: DetectorScores) -> History:
    """`history`, stopped where no student can be taught: without a pool, or by a teacher with these weak `scores`."""
    coming = len(history.rounds)
    guard: Literal["empty_pool", "not_ready"]
    if not history.latest.pool:
        reason, guard = "the pool is empty: source.unlabeled has no image that can be learned from", "empty_pool"
    elif scores.thresholds is None:
        reason, guard = f"the teacher may not teach yet: {scores.why}; label more images, or train longer", "not_ready"
    else:
        return history
    alarm = Alarm(guard=guard, round=coming, value=0.0, limit=0.0, reason=reason, action="stop")
    return history.with_alarms((alarm,))
