"""The outcome of a loop: the verdict, and what the reader of a run must not miss."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from selftrain.config import Gate
from selftrain.evaluate.evaluation import Comparison, Report
from selftrain.selflabel.rounds.gate import explain, judge
from selftrain.selflabel.rounds.history import History, Verdict


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


def minutes(history: History) -> float:
    """The minutes that the training of the models in `history` took, even if a model now came from the cache."""
    return sum(each.seconds for each in history.rounds) / 60


def findings(history: History, report: Report | None, *, teacher_start: str | None = None) -> tuple[str, ...]:
    """What the reader of a run must not miss, one sentence each.

    `teacher_start` names the existing model that was the first teacher; None if the run trained it.
    """
    sentences = [str(each) for each in history.alarms]
    sentences += [f"round {each.index}: {finding}" for each in history.rounds for finding in each.findings]
    if history.students and history.best.index == 0:
        sentences.append("the unlabelled data did not help: the first teacher is still the best model")
    if report is not None and report.comparison is not None and history.best.index > 0:
        sentences.append(f"on test: {_helped(report.comparison, 'the first teacher')}")
    if report is not None and report.control_diverged is not None:
        why = f"the control's training failed: {report.control_diverged}"
        sentences.append(f"did the unlabelled data help? unknown: {why}")
    elif report is not None and report.on_labels is not None and (report.control or history.best.index > 0):
        sentences.append(f"did the unlabelled data help? {_helped(report.on_labels, _on_labels(report))}")
        if teacher_start is not None and report.on_labels is report.control:
            sentences.append(_uncounted(teacher_start, history.first_teacher.image_steps))
    return tuple(sentences)


def _on_labels(report: Report) -> str:
    """Which of baseline and control the question is asked against, in words."""
    control = "the same backbone trained as long on human labels alone"
    baseline = "logistic regression on frozen features, fitted to human labels alone"
    if report.on_labels is report.control:
        return control + (", the better of control and baseline" if report.baseline is not None else "")
    return baseline + (", the better of baseline and control" if report.control is not None else "")


def _uncounted(start: str, image_steps: int) -> str:
    """What the control's image-steps leave out; they include the `image_steps` that the teacher's contract names."""
    begin = f"the first teacher is an existing model ({start}), and the control's image-steps do not count its training"
    return begin + (f", except for the {image_steps:,} image-steps of its last one" if image_steps else "")


def _helped(compared: Comparison, against: str) -> str:
    low, high = compared.difference_interval
    gain = f"{compared.difference * 100:+.1f} points (95 % interval {low * 100:+.1f} to {high * 100:+.1f})"
    return f"{gain} against {against}, {compared.test} p = {compared.p_value:.2g}: {compared.finding.value}"
