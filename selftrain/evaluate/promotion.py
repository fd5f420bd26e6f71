"""Promotion: whether a challenger becomes the champion, decided from measurements and the promotion log alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from selftrain.config import Registry
from selftrain.evaluate.detail import CalibrationComparison, ClassComparison, EarlierComparison
from selftrain.evaluate.detection import DetectionReport
from selftrain.evaluate.evaluation import Comparison, EvaluationReport, Facts
from selftrain.evaluate.trial import Trial, objections

Action = Literal["promote", "rollback", "refuse"]


class Change(Facts):
    """One line of the promotion log: version `to` replaced `previous` as champion, or was refused."""

    number: int
    when: str
    who: str
    action: Action
    previous: int | None = Field(description="champion before")
    to: int
    why: str


class MeasuredOnTest(Facts):
    """A model's report on the test set. The digests of the model and of the test set tell whether it still holds.

    `comparison`, `per_class` and `calibration` are with the champion of version `against`, on the same images. `trial`
    is what the version did in a fresh serving process; None: it had none.
    """

    model_digest: str
    test_digest: str
    report: EvaluationReport | DetectionReport
    against: int | None = None
    comparison: Comparison | None = None
    per_class: tuple[ClassComparison, ...] = ()
    calibration: CalibrationComparison | None = None
    trial: Trial | None = None


class PromotionDecision(Facts):
    """Whether a version may become champion, and the reasons; `against` is the champion it was compared with.

    `earlier` decides nothing: it is shown where the test set has grown.
    """

    promote: bool
    reasons: tuple[str, ...]
    against: int | None = None
    p_value: float | None = None
    earlier: EarlierComparison | None = None

    @property
    def text(self) -> str:
        """The reasons as one line."""
        return "; ".join(self.reasons)


def judge_promotion(
    settings: Registry, measured: MeasuredOnTest | None, *, model_digest: str, test_digest: str, champion: int | None
) -> PromotionDecision:
    """Whether the model `model_digest` may become champion. In doubt, it may not.

    It must pass every floor on the test set `test_digest`. Without a champion, it must beat its run's first teacher
    there, or be that teacher (`settings.first_champion`). If there is one, it must be better by a paired test at
    `settings.alpha`, and significantly worse on no class; nor may its confidence be clearly further from its accuracy.
    If there was a trial, it must have served. The model is also refused without floors, and for a measurement that is
    missing, not a number, or of another model, test set or champion.
    """
    against = None if champion is None else f"champion version {champion}"
    if measured is None:
        return PromotionDecision(promote=False, reasons=("nothing was measured on test",), against=champion)
    refusals = _stale(measured, model_digest=model_digest, test_digest=test_digest, champion=champion)
    refusals += _below_floors(settings, measured.report)
    comparison = measured.comparison
    p_value = comparison.p_value if comparison is not None and math.isfinite(comparison.p_value) else None
    if against is not None and measured.against == champion:
        refusals += _not_better(settings, comparison, against)
        refusals += _classes_that_fell(settings, measured.per_class, against)
        refusals += _calibration_lost(settings, measured.calibration, against)
    if champion is None:
        refusals += _not_better_than_its_teacher(settings, measured.report.comparison)
    refusals += [] if measured.trial is None else objections(measured.trial, settings.limits)
    if refusals:
        return PromotionDecision(promote=False, reasons=tuple(refusals), against=champion, p_value=p_value)
    passed = f"every floor passed ({', '.join(f'{name} >= {floor:g}' for name, floor in settings.floors.items())})"
    served = () if measured.trial is None else (measured.trial.text,)
    if comparison is None or against is None:
        return PromotionDecision(promote=True, reasons=(passed, "there was no champion", *served))
    better = f"better than {against} by {100 * comparison.difference:.1f} points, p = {comparison.p_value:.2g}"
    return PromotionDecision(promote=True, reasons=(passed, better, *served), against=champion, p_value=p_value)


def _stale(measured: MeasuredOnTest, *, model_digest: str, test_digest: str, champion: int | None) -> list[str]:
    refusals = []
    if not model_digest or measured.model_digest != model_digest:
        refusals.append(f"the measurement is of the model {measured.model_digest[:12]!r}, not {model_digest[:12]!r}")
    if not test_digest or measured.test_digest != test_digest:
        refusals.append(f"the measurement is of the test set {measured.test_digest[:12]!r}, not {test_digest[:12]!r}")
    if measured.against != champion:
        compared = "no champion" if measured.against is None else f"version {measured.against}"
        present = "there is no champion" if champion is None else f"the champion is version {champion}"
        refusals.append(f"compared with {compared}, but {present}")
    return refusals


def _below_floors(settings: Registry, report: EvaluationReport | DetectionReport) -> list[str]:
    if not settings.floors:
        return ["no floors are set in registry.floors"]
    refusals = []
    for name, floor in settings.floors.items():
        value = report.metric(name)
        if not math.isfinite(value):
            refusals.append(f"{name} on test is not a number")
        elif value < floor:
            refusals.append(f"{name} {value:.4f} on test is below its floor {floor:g}")
    return refusals


def _not_better_than_its_teacher(settings: Registry, compared: Comparison | None) -> list[str]:
    """Whether a run ended with another model than its first teacher, and test says that this was in vain."""
    if settings.first_champion == "any" or compared is None or not compared.differs or compared.difference > 0:
        return []
    return [
        f"not better on test than its run's first teacher ({compared.counts}); "
        "registry.first_champion: any accepts it all the same"
    ]


def _not_better(settings: Registry, comparison: Comparison | None, against: str) -> list[str]:
    if comparison is None:
        return [f"not compared with {against} on the same test images"]
    if not math.isfinite(comparison.p_value) or not math.isfinite(comparison.difference):
        return [f"the comparison with {against} is not a number"]
    if comparison.difference <= 0:
        return [f"not better than {against} ({comparison.counts})"]
    if comparison.p_value >= settings.alpha:
        return [
            f"not significantly better than {against}: {comparison.counts}, "
            f"p = {comparison.p_value:.2g}, needed below {settings.alpha:g}"
        ]
    return []


def _classes_that_fell(settings: Registry, classes: Sequence[ClassComparison], against: str) -> list[str]:
    return [
        f"significantly worse than {against} on the class {each.name}: {each.won} images won, {each.lost} lost of "
        f"{each.images}, p = {each.p_value:.2g} (Holm over {len(classes)} classes)"
        for each in classes
        if each.fell(settings.alpha)
    ]


def _calibration_lost(settings: Registry, found: CalibrationComparison | None, against: str) -> list[str]:
    """Whether even the low end of the difference's interval is above the margin; NaN is."""
    margin = settings.calibration_margin
    if found is None or margin is None or found.difference_interval.low <= margin:
        return []
    low, high = (100 * end for end in found.difference_interval)
    return [
        f"calibration clearly worse than that of {against}: its mean confidence is {100 * found.gap:+.1f} points from "
        f"its accuracy, the other's {100 * found.reference_gap:+.1f}: {low:.1f} to {high:.1f} further, "
        f"registry.calibration_margin is {100 * margin:g}"
    ]


def reason_to_wait(settings: Registry, decision: PromotionDecision, log: Sequence[Change], version: int) -> str | None:
    """Why a run does not make `version` champion itself; None if it does.

    A version that was champion before is only promoted by hand, so that a repeated run does not undo a rollback.
    """
    if not decision.promote:
        return decision.text
    by_hand = f"`selftrain promote {version}` makes it champion: {decision.text}"
    if not settings.auto_promote:
        return f"registry.auto_promote is off; {by_hand}"
    if was_champion(log, version):
        return f"it was champion before and was replaced; {by_hand}"
    return None


def was_champion(log: Sequence[Change], version: int) -> bool:
    """Whether `version` has been champion before.

    If the last move promoted it, that move does not count: the process may have been killed before it set the alias.
    """
    past = moves(log)
    if past and past[-1].action == "promote" and past[-1].to == version:
        past = past[:-1]
    return any(version in (change.to, change.previous) for change in past)


def promoted_by_decision(log: Sequence[Change], version: int, decision: PromotionDecision) -> bool:
    """Whether the last move made `version` champion for the reasons of `decision`; if so, a run did it, not a user."""
    return [(last.to, last.why) for last in moves(log)[-1:]] == [(version, decision.text)]


def unfinished_move(log: Sequence[Change], champion: int | None) -> Change | None:
    """The last move, if a kill came before its alias was set, so that `champion` is still the previous one."""
    last = next(iter(moves(log)[-1:]), None)
    return last if last is not None and last.to != champion and last.previous == champion else None


def champions_in_order(log: Sequence[Change]) -> list[int]:
    """The champions by the log, each after the one that it replaced. A rollback removes those after its target."""
    champions: list[int] = []
    for change in log:
        match change.action:
            case "promote":
                if change.previous in champions:
                    del champions[champions.index(change.previous) + 1 :]
                elif change.previous is not None:
                    champions.append(change.previous)  # it became champion without selftrain
                champions.append(change.to)
            case "rollback":
                while champions and champions[-1] != change.to:
                    champions.pop()
            case "refuse":
                pass
    return champions


def moves(log: Sequence[Change]) -> list[Change]:
    """The changes of `log` that set a new champion; refusals are left out."""
    return [change for change in log if change.action != "refuse"]
