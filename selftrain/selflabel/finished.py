"""Finished rounds: from a saved model, its scores and its pseudo-labels to a Round, and the findings of a run."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from selftrain.config import Gate, Student
from selftrain.data.manifest import Manifest, Split
from selftrain.evaluate.evaluation import Comparison, EvaluationReport
from selftrain.learn.contract import SavedModel
from selftrain.learn.ladder import next_rung
from selftrain.selflabel.gate import explain, judge
from selftrain.selflabel.pseudo_labels import PseudoLabels
from selftrain.selflabel.rounds import History, Round, Verdict
from selftrain.selflabel.scores import Scores


class Outcome(BaseModel):
    """How a loop ended: its rounds, the gate's verdict, and the verdict in words."""

    model_config = ConfigDict(frozen=True)

    history: History
    verdict: Verdict
    explanation: str


def outcome(gate: Gate, history: History) -> Outcome:
    """The outcome of a loop that ended with `history`."""
    spent = minutes(history)
    verdict = judge(gate, history, minutes=spent)
    return Outcome(history=history, verdict=verdict, explanation=explain(verdict, gate, history, minutes=spent))


def teacher_round(manifest: Manifest, model: SavedModel, scores: Scores, gate: Gate) -> Round:
    """Round 0: the first teacher."""
    return _round(0, manifest, model, scores, gate)


def student_round(
    index: int, manifest: Manifest, labels: PseudoLabels, model: SavedModel, scores: Scores, gate: Gate
) -> Round:
    """Round `index`: a student trained on human labels and the accepted ones of `labels`."""
    added = {"accepted": labels.accepted.num_rows, "pool": len(labels), "threshold": labels.threshold}
    return _round(index, manifest, model, scores, gate).model_copy(update=added)


def student_backbone(recipe: Student, history: History) -> str:
    """The backbone of the next student: the configured one, or the rung above its teacher's."""
    return recipe.backbone or next_rung(history.teacher.backbone)


def minutes(history: History) -> float:
    """Minutes that the models of `history` took to train; the same however often the cache answers."""
    return sum(each.seconds for each in history.rounds) / 60


def findings(history: History, report: EvaluationReport | None) -> tuple[str, ...]:
    """What the reader of a run must not miss, a sentence each."""
    found = [str(each) for each in history.alarms]
    if history.students and history.best.index == 0:
        found.append("the unlabelled data did not help: the first teacher is still the best model")
    if report is not None and report.comparison is not None and history.best.index > 0:
        found.append(f"on test: {_helped(report.comparison)}")
    return tuple(found)


def _helped(compared: Comparison) -> str:
    low, high = compared.difference_interval
    gain = f"{compared.difference * 100:+.1f} points (95 % interval {low * 100:+.1f} to {high * 100:+.1f})"
    return f"{gain} against the first teacher, McNemar p = {compared.p_value:.2g}: {compared.finding.value}"


def _round(index: int, manifest: Manifest, model: SavedModel, scores: Scores, gate: Gate) -> Round:
    return Round(
        index=index,
        backbone=model.contract.backbone,
        labeled=len(manifest.rows(Split.TRAIN)),
        pool=len(manifest.rows(Split.UNLABELED)),
        validation_accuracy=scores.accuracy,
        validation_metric=scores.metric(gate.metric),
        seconds=model.contract.seconds,
        model_digest=model.digest,
    )
