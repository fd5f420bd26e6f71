"""Results: a Round from a model, its scores and its pseudo-labels."""

from __future__ import annotations

from selftrain.config import DetectionMethod, Gate, Guards, Method, learns_in_training
from selftrain.data.manifest import Manifest, Split
from selftrain.learn.models import divergence
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.guards import watch, watch_student
from selftrain.selflabel.rounds.history import History, Round
from selftrain.selflabel.rounds.scores import Scores
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels


def teacher_round(manifest: Manifest, model: SavedModel, scores: Scores, gate: Gate) -> Round:
    """Round 0: the first teacher."""
    return _round(0, manifest, model, scores, gate)


def student_round(
    index: int,
    manifest: Manifest,
    labels: PseudoLabels,
    model: SavedModel,
    scores: Scores,
    gate: Gate,
    *,
    method: Method,
) -> Round:
    """Round `index`: a student trained on human labels and on the accepted ones of `labels`.

    A student that learns in training reads no pseudo-labels, so its round holds no figures about them.
    """
    trained = _round(index, manifest, model, scores, gate)
    trained = trained.model_copy(
        update={"method": method, "diverged": divergence.reason(model), "churn": model.contract.churn}
    )
    if trained.in_training:
        return trained
    measured = labels.measured
    added = {
        "accepted": labels.accepted.num_rows,
        "pool": len(labels),
        "threshold": labels.threshold,
        "pseudo_precision": measured.precision if measured else None,
        "pseudo_precision_low": measured.interval[0] if measured else None,
        "findings": labels.findings,
    }
    return trained.model_copy(update=added)


def with_guards(
    history: History, guards: Guards, manifest: Manifest, labels: PseudoLabels, *, method: Method
) -> History:
    """`history` with the guards' alarms about the next round's `labels`.

    If the student's `method` does not read them, every guard only warns.
    """
    prior = manifest.class_counts(Split.TRAIN)
    return history.with_alarms(watch(_acting(guards, method), labels, prior=prior))


def with_round_of(history: History, guards: Guards, gate: Gate, finished: Round) -> History:
    """`history` with a student's round and the guards' alarms about it; they only warn if it learnt in training."""
    alarms = watch_student(_acting(guards, finished.method), finished.churn, round_index=finished.index)
    return history.with_alarms(alarms).with_round(finished, target=gate.target)


def _acting(guards: Guards, method: Method | DetectionMethod | None) -> Guards:
    return guards.model_copy(update={"actions": {}}) if learns_in_training(method) else guards


def _round(index: int, manifest: Manifest, model: SavedModel, scores: Scores, gate: Gate) -> Round:
    return Round(
        index=index,
        backbone=model.contract.backbone,
        labeled=len(manifest.rows(Split.TRAIN)),
        pool=len(manifest.rows(Split.UNLABELED)),
        validation_accuracy=scores.accuracy,
        validation_metric=scores.metric(gate.metric),
        validation_images=scores.images,
        validation_log_loss=scores.log_loss,
        calibration_error=scores.calibration_error,
        calibration_error_uncalibrated=scores.calibration_error_uncalibrated,
        seconds=model.contract.seconds,
        image_steps=model.contract.image_steps,
        batch_parts=model.contract.batch_parts,
        model_digest=model.digest,
    )
