"""The gate: whether the loop goes on after a round, and why it stops. It reads validation only."""

from __future__ import annotations

import math
from typing import assert_never

from selftrain.config import METRIC_NAMES, Gate
from selftrain.selflabel.rounds.history import History, Round, Verdict

ROUNDING = 1e-9
"""In binary, 0.57 - 0.56 < 0.01. A gain of exactly `min_gain` must not fail because of one bit."""


def judge(gate: Gate, history: History, *, minutes: float) -> Verdict:
    """The verdict on `history` after `minutes` of work: the first of these that holds.

    - passed: the best model's metric is at least `target`, after at least `min_rounds` rounds.
    - stalled: a guard stopped the loop. Or, after at least `min_rounds` rounds, the last `patience` rounds together
      gained less than `min_gain` on the best before them.
    - exhausted: `max_rounds` are done, or `minutes` have reached the budget.
    - continue.

    A metric that is NaN never passes and never counts as a gain. Raises InputError for an empty history.
    """
    best = history.best.validation_metric
    enough = history.students >= gate.min_rounds
    if enough and math.isfinite(best) and best >= gate.target:
        return Verdict.PASSED
    if history.stopped or (enough and stalled(gate, history)):
        return Verdict.STALLED
    if history.students >= gate.max_rounds or (gate.budget_minutes is not None and minutes >= gate.budget_minutes):
        return Verdict.EXHAUSTED
    return Verdict.CONTINUE


def stalled(gate: Gate, history: History) -> bool:
    """Whether the last `patience` rounds together gained less than `min_gain` on the best before them."""
    if history.students < gate.patience:
        return False
    before = _highest(history.rounds[: -gate.patience])
    since = _highest(history.rounds[-gate.patience :])
    return since == -math.inf or since - before < gate.min_gain - ROUNDING


def explain(verdict: Verdict, gate: Gate, history: History, *, minutes: float) -> str:
    """`verdict` in one sentence: the metric, the target, and what would change the outcome."""
    best = history.best
    name = METRIC_NAMES[gate.metric]
    reached = f"validation {name} {best.validation_metric:.4f} (round {best.index})"
    after = f"after {_rounds(history.students)}"
    match verdict:
        case Verdict.PASSED:
            return f"{reached} reached the target {gate.target:g} {after}"
        case Verdict.CONTINUE:
            return f"{reached}, target {gate.target:g}, {after}: another round"
        case Verdict.STALLED if history.stopped:
            return f"{reached}, target {gate.target:g}: a guard stopped the loop {after}"
        case Verdict.STALLED:
            last = "round" if gate.patience == 1 else f"{gate.patience} rounds"
            gained = f"no gain of {gate.min_gain:g} in the last {last}"
            return f"{reached} is below the target {gate.target:g}: {gained}; add labels, or lower the target"
        case Verdict.EXHAUSTED if history.students >= gate.max_rounds:
            return f"{reached} is below the target {gate.target:g} {after}, all that gate.max_rounds allows"
        case Verdict.EXHAUSTED:
            spent = f"{minutes:.1f} of {gate.budget_minutes:g} minutes" if gate.budget_minutes else f"{minutes:.1f} min"
            return f"{reached} with the target {gate.target:g}: {spent} are spent {after}; raise gate.budget_minutes"
        case _:
            assert_never(verdict)


def _highest(rounds: tuple[Round, ...]) -> float:
    return max((each.validation_metric for each in rounds if math.isfinite(each.validation_metric)), default=-math.inf)


def _rounds(count: int) -> str:
    return f"{count} round" if count == 1 else f"{count} rounds"
