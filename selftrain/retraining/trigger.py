"""The trigger: whether a retraining is due, and why, in one line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from selftrain.config import Retrain, Triggers


@dataclass(frozen=True)
class TriggerFacts:
    """What is known when somebody asks whether a retraining is due. Times are UTC."""

    now: datetime
    new: int  # usable images that no decided run has seen
    decided_at: datetime | None = None  # end of the last run with a verdict; None: there was none
    failures: int = 0  # failed retrainings in a row
    requested: bool = False  # somebody asked for it since the last decided run
    drift: str | None = None  # what has drifted; None: nothing, or it was not measured
    measured: bool = False  # whether drift was measured
    inbox: bool = True  # whether there is an inbox that new images can come from
    accuracy: float | None = None  # the champion's, 0-1, on labelled production images; None: there are none


@dataclass(frozen=True)
class Due:
    """A retraining is due, for the one-line `reason`."""

    reason: str
    kind: Literal["due"] = "due"


@dataclass(frozen=True)
class NotDue:
    """No retraining is due, for the one-line `reason`. `stopped`: none will be before somebody resumes it."""

    reason: str
    stopped: bool = False
    kind: Literal["not_due"] = "not_due"


Decision = Due | NotDue


@dataclass(frozen=True)
class _Condition:
    """One condition that is switched on: whether it holds, and the fact behind it."""

    holds: bool
    text: str


def due(facts: TriggerFacts, policy: Retrain) -> Decision:
    """Whether `policy` asks for a retraining, given `facts`.

    Too many failures in a row stop everything until somebody resumes it. A request by hand, where `manual` is on,
    passes the cooldown. Otherwise every condition of `all_of` must hold, and at least one of `any_of` if it names any.

    >>> now = datetime(2026, 1, 2)
    >>> due(TriggerFacts(now, new=40), Retrain()).reason
    '40 new images of 100; nobody asked'
    >>> due(TriggerFacts(now, new=140), Retrain())
    Due(reason='140 new images of 100', kind='due')
    """
    if facts.failures >= policy.max_failures:
        return NotDue(
            f"stopped after {facts.failures} failures in a row; mend the cause, then run `selftrain retrain --resume`",
            stopped=True,
        )
    if facts.requested and (policy.any_of.manual or policy.all_of.manual) and not _missing(facts, policy):
        return Due("asked for by hand")
    waits = _cooldown(facts, policy.cooldown_hours)
    if waits is not None:
        return NotDue(waits)
    return _judge(_conditions(facts, policy.any_of), _conditions(facts, policy.all_of))


def wants_drift(facts: TriggerFacts, policy: Retrain, *, min_images: int) -> bool:
    """Whether a measurement of drift, which loads a model, could make a retraining due that is not due without it."""
    asked = policy.any_of.drift or policy.all_of.drift
    if not asked or facts.new < min_images or isinstance(due(facts, policy), Due):
        return False
    return isinstance(due(_with_drift(facts), policy), Due)


def _with_drift(facts: TriggerFacts) -> TriggerFacts:
    return TriggerFacts(**{**vars(facts), "drift": "drift"})


def _missing(facts: TriggerFacts, policy: Retrain) -> bool:
    """Whether a condition of `all_of` other than the request does not hold."""
    return not all(each.holds for each in _conditions(facts, policy.all_of))


def _cooldown(facts: TriggerFacts, hours: float) -> str | None:
    """Why it is too early; None where it is not. A clock that was set back does not extend the pause."""
    if facts.decided_at is None or hours == 0:
        return None
    passed = facts.now - facts.decided_at
    if timedelta(0) <= passed < timedelta(hours=hours):
        return f"cooling down: the last decided run ended {_hours(passed)} h ago, and cooldown_hours is {hours:g}"
    return None


def _judge(any_of: list[_Condition], all_of: list[_Condition]) -> Decision:
    failed = [each.text for each in all_of if not each.holds]
    if failed:
        return NotDue("; ".join(failed))
    if not any_of:
        return Due("; ".join(each.text for each in all_of))
    held = [each.text for each in any_of if each.holds]
    if not held:
        return NotDue("; ".join(each.text for each in any_of))
    return Due("; ".join([*held, *(each.text for each in all_of)]))


def _conditions(facts: TriggerFacts, triggers: Triggers) -> list[_Condition]:
    """The conditions that `triggers` switch on."""
    conditions = []
    if triggers.min_new is not None:
        where = "" if facts.inbox else ", as there is no section `inbox`"
        text = f"{facts.new} new images of {triggers.min_new}{where}"
        conditions.append(_Condition(facts.new >= triggers.min_new, text))
    if triggers.max_age_hours is not None:
        conditions.append(_age(facts, triggers.max_age_hours))
    if triggers.drift:
        conditions.append(_Condition(facts.drift is not None, facts.drift or _no_drift(facts)))
    if triggers.performance is not None:
        conditions.append(_performance(facts.accuracy, triggers.performance))
    if triggers.manual:
        conditions.append(_Condition(facts.requested, "asked for by hand" if facts.requested else "nobody asked"))
    return conditions


def _age(facts: TriggerFacts, hours: float) -> _Condition:
    if facts.decided_at is None:
        return _Condition(True, "no run was decided yet")
    age = facts.now - facts.decided_at
    return _Condition(
        age >= timedelta(hours=hours) or age < timedelta(0), f"last decided run {_hours(age)} h ago of {hours:g}"
    )


def _performance(accuracy: float | None, floor: float) -> _Condition:
    if accuracy is None:
        return _Condition(False, "no labelled production images to measure the champion on")
    return _Condition(accuracy < floor, f"the champion's accuracy in production is {accuracy:.3f}, floor {floor:g}")


def _no_drift(facts: TriggerFacts) -> str:
    return "no drift was found" if facts.measured else "drift was not measured"


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.1f}"
