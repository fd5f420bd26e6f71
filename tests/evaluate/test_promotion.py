"""Promotion: decisions that fail closed, from floors and a paired comparison with the champion."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.config import Registry
from selftrain.evaluate.evaluation import Comparison, EvaluationReport, compare, evaluate
from selftrain.evaluate.promotion import MeasuredOnTest, PromotionDecision, judge_promotion

CLASSES = ("cat", "dog")
LABELS = np.arange(100) % 2


def answers(wrong: slice) -> np.ndarray:
    """Probabilities (100, 2) that are right but for the images in `wrong`."""
    said = LABELS.copy()
    said[wrong] = 1 - said[wrong]
    return np.where(np.arange(2) == said[:, None], 0.9, 0.1).astype(np.float32)


def report(wrong: slice = slice(0, 5)) -> EvaluationReport:
    return evaluate(LABELS, answers(wrong), class_names=CLASSES)


def measured(**changes: object) -> MeasuredOnTest:
    return MeasuredOnTest(model_digest="m", test_digest="t", report=report()).model_copy(update=changes)


def judge(found: MeasuredOnTest | None, *, champion: int | None = None, **settings: object) -> PromotionDecision:
    return judge_promotion(
        Registry.model_validate(settings), found, model_digest="m", test_digest="t", champion=champion
    )


def against(champion: slice) -> Comparison:
    return compare(LABELS, answers(slice(0, 5)), answers(champion))


def test_the_first_champion_needs_the_floors_only() -> None:
    decision = judge(measured())
    assert decision.promote
    assert "there was no champion" in decision.text
    assert not judge(measured(), floors={"accuracy": 0.96}).promote


def test_every_floor_must_be_passed() -> None:
    decision = judge(measured(), floors={"accuracy": 0.5, "macro_f1": 0.99})
    assert not decision.promote
    assert "macro_f1 0.95" in decision.text


def test_a_surely_better_model_replaces_the_champion() -> None:
    decision = judge(measured(against=3, comparison=against(slice(0, 20))), champion=3)
    assert decision.promote
    assert decision.against == 3
    assert decision.p_value == pytest.approx(2**-14)


@pytest.mark.parametrize(
    ("champion_wrong", "why"),
    [(slice(0, 9), "not surely better"), (slice(0, 5), "not better"), (slice(0, 1), "not better")],
)
def test_a_model_that_may_be_no_better_than_the_champion_is_refused(champion_wrong: slice, why: str) -> None:
    decision = judge(measured(against=3, comparison=against(champion_wrong)), champion=3)
    assert not decision.promote
    assert why in decision.text


NOT_A_NUMBER = report().model_copy(update={"accuracy": math.nan})
NO_P_VALUE = against(slice(0, 20)).model_copy(update={"p_value": math.nan})


@pytest.mark.parametrize(
    ("found", "champion", "floors", "why"),
    [
        (None, None, {"accuracy": 0.5}, "nothing was measured"),
        (measured(), None, {}, "no floors"),
        (measured(report=NOT_A_NUMBER), None, {"accuracy": 0.0}, "not a number"),
        (measured(model_digest="another"), None, {"accuracy": 0.5}, "of the model 'another'"),
        (measured(test_digest="last year's"), None, {"accuracy": 0.5}, "of the test set"),
        (measured(), 3, {"accuracy": 0.5}, "compared with no champion"),
        (measured(against=3), 3, {"accuracy": 0.5}, "not compared with champion version 3"),
        (measured(against=3, comparison=NO_P_VALUE), 3, {"accuracy": 0.5}, "is not a number"),
        (measured(against=2, comparison=against(slice(0, 20))), 3, {"accuracy": 0.5}, "compared with version 2"),
        (measured(against=2, comparison=against(slice(0, 20))), None, {"accuracy": 0.5}, "but there is none"),
    ],
)
def test_missing_stale_and_undefined_numbers_promote_nothing(
    found: MeasuredOnTest | None, champion: int | None, floors: dict[str, float], why: str
) -> None:
    decision = judge(found, champion=champion, floors=floors)
    assert not decision.promote
    assert why in decision.text


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_floor_never_lets_more_models_through(low: float, high: float) -> None:
    low, high = sorted((low, high))
    if judge(measured(), floors={"accuracy": high}).promote:
        assert judge(measured(), floors={"accuracy": low}).promote
