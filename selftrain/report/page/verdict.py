"""The verdict of a page: whether the unlabelled images helped, in one sentence, and the comparisons behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selftrain.report.summary import number
from selftrain.selflabel.rounds.record import RunRecord

ALPHA = 0.05
Tone = Literal["good", "warn", "bad"]
_BASELINE = "logistic regression on frozen features, fitted to the labels alone"
_CONTROL = "the same network, trained on the labels alone for as many image-steps"
BETTER_OF_LABELS = (_BASELINE, _CONTROL)
"""Of these models, which know the labels alone, the better one is what a final model is compared with."""


@dataclass(frozen=True)
class Versus:
    """The final model against another one, on the same test images. Shares are 0-1; `difference` is signed."""

    name: str
    accuracy: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    test: str

    @property
    def finding(self) -> str:
        """What the comparison shows at the 5 % level."""
        if not self.p_value < ALPHA:
            return "no proven difference"
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True)
class Verdict:
    """The answer in one sentence, with a second one on what it rests on."""

    tone: Tone
    sentence: str
    basis: str


def comparisons(record: RunRecord) -> tuple[Versus, ...]:
    """The final model against the first teacher, the baseline and the control, as far as the run measured them."""
    r = record
    rows = (
        ("the first teacher, trained on the labels alone", r.teacher_test_accuracy, r.difference, r.difference_interval,
         r.p_value, r.p_value_test),
        (_BASELINE, r.baseline_test_accuracy, r.baseline_difference, r.baseline_interval, r.baseline_p_value,
         r.baseline_p_value_test),
        (_CONTROL, r.control_test_accuracy, r.control_difference, r.control_interval, r.control_p_value,
         r.control_p_value_test),
    )  # fmt: skip
    return tuple(
        Versus(name, accuracy, difference, interval, p_value, test)
        for name, accuracy, difference, interval, p_value, test in rows
        if accuracy is not None and difference is not None and interval is not None and p_value is not None
    )


def verdict(record: RunRecord, *, control_failed: str | None = None) -> Verdict:
    """Whether the unlabelled images helped. The answer is told against the best model that knows the labels alone.

    `control_failed` says why the run's control, if it was asked for, gave no model: then the answer is not known.
    """
    found = comparisons(record)
    if control_failed is not None:
        return Verdict("warn", "Unknown: the training of the control failed.", control_failed)
    if record.test_accuracy is None or not found:
        return _unknown(record)
    kept = [each for each in record.rounds if each.kept]
    images = f"{record.test_images or 'the'} test images"
    right, metric = f"{number(record.test_accuracy)} of {images} are right", "accuracy"
    if record.metric == "map":
        right, metric = f"mAP {number(record.test_accuracy, 'map')} on {images}", "mAP"
    if len(record.rounds) == 1:
        return Verdict("warn", "Unknown: no student was trained.", f"The first teacher is the final model; {right}.")
    if kept and kept[-1].index == 0:
        return Verdict(
            "bad", "No: no student was better than the first teacher.", f"It stays the final model; {right}."
        )
    hardest = min([each for each in found if each.name in BETTER_OF_LABELS] or found, key=lambda x: x.difference)
    low, high = hardest.interval
    points = f"{abs(100 * hardest.difference):.1f} points"
    basis = (
        f"{right}. Compared with {hardest.name}: {100 * hardest.difference:+.1f} points, 95 % interval "
        f"{100 * low:+.1f} to {100 * high:+.1f}, {hardest.test} p = {hardest.p_value:.2g}."
    )
    if hardest.finding == "better":
        return Verdict("good", f"Yes: the unlabelled images added {points} of test {metric}.", basis)
    if hardest.finding == "worse":
        return Verdict("bad", f"No: the unlabelled images cost {points} of test {metric}.", basis)
    signed = f"{100 * hardest.difference:+.1f} points"
    return Verdict("warn", f"It is not proven that the unlabelled images helped: {signed} may be chance.", basis)


def _unknown(record: RunRecord) -> Verdict:
    if record.status == "completed":
        return Verdict("warn", "Unknown: the run compared its model with no other one.", "")
    if record.status == "failed":
        return Verdict("bad", "Unknown: the run failed before its test.", record.error or "")
    return Verdict("warn", f"Not known yet: the run is {record.status}.", record.error or "")
