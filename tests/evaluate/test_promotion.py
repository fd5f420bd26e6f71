"""Promotion: decisions that fail closed, from floors and a paired comparison with the champion."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.config import Registry
from selftrain.evaluate.detail import DetailedComparison, compare_in_detail
from selftrain.evaluate.evaluation import Comparison, EvaluationReport, compare, evaluate
from selftrain.evaluate.promotion import (
    Action,
    Change,
    MeasuredOnTest,
    PromotionDecision,
    champions_in_order,
    judge_promotion,
    promoted_by_decision,
    reason_to_wait,
    unfinished_move,
    was_champion,
)
from selftrain.evaluate.trial import Trial

CLASSES = ("cat", "dog")
LABELS = np.arange(100) % 2


def answers(wrong: slice) -> np.ndarray:
    """Probabilities (100, 2) that are right but for the images in `wrong`."""
    said = LABELS.copy()
    said[wrong] = 1 - said[wrong]
    return np.where(np.arange(2) == said[:, None], 0.9, 0.1).astype(np.float32)


def report(wrong: slice = slice(0, 5)) -> EvaluationReport:
    return evaluate(LABELS, answers(wrong), class_names=CLASSES)


def after(teacher: slice) -> EvaluationReport:
    """The report on a model that is wrong on the first five images, after a first teacher wrong on `teacher`."""
    return evaluate(LABELS, answers(slice(0, 5)), class_names=CLASSES, reference_probs=answers(teacher))


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


def test_a_model_that_test_calls_no_better_than_its_first_teacher_is_not_the_first_champion() -> None:
    worse, equal = measured(report=after(slice(0, 4))), measured(report=after(slice(50, 55)))
    for found in (worse, equal):
        decision = judge(found)
        assert not decision.promote
        assert "not better on test than its run's first teacher" in decision.text
        assert judge(found, first_champion="any").promote
    assert judge(measured(report=after(slice(0, 6)))).promote


def test_a_run_that_ends_with_its_first_teacher_may_make_it_the_first_champion() -> None:
    assert judge(measured(report=after(slice(0, 5)))).promote


def test_the_first_teacher_does_not_count_against_a_champion() -> None:
    found = measured(against=3, comparison=against(slice(0, 20)), report=after(slice(0, 2)))
    assert judge(found, champion=3).promote


def test_every_floor_must_be_passed() -> None:
    decision = judge(measured(), floors={"accuracy": 0.5, "macro_f1": 0.99})
    assert not decision.promote
    assert "macro_f1 0.95" in decision.text


def test_a_significantly_better_model_replaces_the_champion() -> None:
    decision = judge(measured(against=3, comparison=against(slice(0, 20))), champion=3)
    assert decision.promote
    assert decision.against == 3
    assert decision.p_value == pytest.approx(2**-14)


@pytest.mark.parametrize(
    ("champion_wrong", "why"),
    [(slice(0, 9), "not significantly better"), (slice(0, 5), "not better"), (slice(0, 1), "not better")],
)
def test_a_model_that_may_be_no_better_than_the_champion_is_refused(champion_wrong: slice, why: str) -> None:
    decision = judge(measured(against=3, comparison=against(champion_wrong)), champion=3)
    assert not decision.promote
    assert why in decision.text


def detailed(*, fallen: int = 0, claimed: float = 0.9) -> DetailedComparison:
    """A model that is right but for `fallen` images of a cat, against one that is wrong on 40 images of a dog."""
    right = np.where(np.arange(2) == LABELS[:, None], claimed, 1 - claimed)
    model, champion = right.copy(), right.copy()
    model[np.flatnonzero(LABELS == 0)[:fallen]] = [1 - claimed, claimed]
    champion = np.where(right == claimed, 0.9, 0.1)
    champion[np.flatnonzero(LABELS == 1)[:40]] = [0.9, 0.1]
    return compare_in_detail(LABELS, model, champion, class_names=CLASSES)


def in_detail(found: DetailedComparison) -> MeasuredOnTest:
    return measured(against=3, comparison=found.overall, per_class=found.per_class, calibration=found.calibration)


def test_a_better_model_is_refused_where_a_class_fell_significantly() -> None:
    decision = judge(in_detail(detailed(fallen=12)), champion=3)
    assert not decision.promote
    assert "significantly worse than champion version 3 on the class cat: 0 images won, 12 lost of 50" in decision.text
    assert judge(in_detail(detailed(fallen=3)), champion=3).promote  # it may be chance
    assert judge(in_detail(detailed(fallen=12)), champion=3, alpha=3e-4).promote


def test_a_better_model_is_refused_where_its_confidence_is_clearly_further_from_its_accuracy() -> None:
    unsure = in_detail(detailed(claimed=0.51))  # right on all images, and sure of none; the champion is 0.3 too sure
    decision = judge(unsure, champion=3)
    assert not decision.promote
    assert "calibration clearly worse than that of champion version 3" in decision.text
    assert "-49.0 points from its accuracy" in decision.text
    assert judge(unsure, champion=3, calibration_margin=None).promote
    assert judge(in_detail(detailed(claimed=0.6)), champion=3, calibration_margin=0.3).promote


SERVED = Trial(
    images=16,
    largest_difference=1e-6,
    batch=64,
    batch_answered=64,
    latency_ms=12.0,
    batch_ms=100.0,
    memory_mb=800.0,
    seconds=6.0,
)


def test_a_version_that_served_may_be_promoted_and_the_reasons_say_so_in_the_same_words_each_time() -> None:
    decision = judge(measured(trial=SERVED))
    assert decision.promote
    assert decision.reasons[-1] == "a fresh process served 16 images as evaluated"
    slower = SERVED.model_copy(update={"latency_ms": 14.0})
    assert judge(measured(trial=slower)).text == decision.text


@pytest.mark.parametrize(
    ("changed", "limits", "why"),
    [
        ({"failure": "MlflowException: no such file"}, {}, "does not serve: MlflowException: no such file"),
        ({"largest_difference": 2e-4}, {}, r"differ from evaluation's by 0.0002, allowed is 0.0001"),
        ({"largest_difference": math.nan}, {}, "differ from evaluation's by nan"),
        ({"images": 0}, {}, "0 golden images"),
        ({"broken_answered": ("cut short",)}, {}, "no error for broken images (cut short)"),
        ({"batch_answered": 63}, {}, "answered 63 of the 64 images"),
        ({}, {"latency_ms": 11}, "an image takes 12.0 ms, registry.limits.latency_ms is 11"),
        ({"latency_ms": math.nan}, {"latency_ms": 11}, "an image takes nan ms"),
        ({}, {"memory_mb": 750}, "it takes 800 MB, registry.limits.memory_mb is 750"),
    ],
)
def test_a_version_that_does_not_serve_as_it_should_is_refused(
    changed: dict[str, object], limits: dict[str, float], why: str
) -> None:
    decision = judge(measured(trial=SERVED.model_copy(update=changed)), limits=limits)
    assert not decision.promote
    assert why in decision.text


NOT_A_NUMBER = report().model_copy(update={"accuracy": math.nan})
NO_P_VALUE = against(slice(0, 20)).model_copy(update={"p_value": math.nan})
NO_DIFFERENCE = against(slice(0, 20)).model_copy(update={"difference": math.nan})


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
        (measured(against=3, comparison=NO_DIFFERENCE), 3, {"accuracy": 0.5}, "is not a number"),
        (measured(against=2, comparison=against(slice(0, 20))), 3, {"accuracy": 0.5}, "compared with version 2"),
        (measured(against=2, comparison=against(slice(0, 20))), None, {"accuracy": 0.5}, "but there is no champion"),
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


def log(*lines: tuple[Action, int | None, int], why: str = "judged") -> list[Change]:
    """The log with these (action, previous champion, version)."""
    return [
        Change(number=number, when="now", who="run", action=action, previous=previous, to=to, why=why)
        for number, (action, previous, to) in enumerate(lines, start=1)
    ]


ALLOWED = PromotionDecision(promote=True, reasons=("judged",))


def test_a_version_that_lost_its_place_is_promoted_by_hand_only() -> None:
    taken_back = log(("promote", None, 1), ("promote", 1, 2), ("rollback", 2, 1))
    assert was_champion(taken_back, 2)
    assert not was_champion(taken_back, 3)
    assert reason_to_wait(Registry(), ALLOWED, taken_back, 3) is None
    reason = reason_to_wait(Registry(), ALLOWED, taken_back, 2) or ""
    assert reason == "it was champion before and was replaced; `selftrain promote 2` makes it champion: judged"


def test_a_promotion_that_may_have_been_cut_short_is_repeated() -> None:
    begun = log(("promote", None, 1), ("promote", 1, 2), ("refuse", 1, 3))
    assert not was_champion(begun, 2)
    assert was_champion(begun, 1)
    assert reason_to_wait(Registry(), ALLOWED, begun, 2) is None


def test_a_refused_version_waits_for_its_reasons_and_an_allowed_one_for_a_user_without_auto_promote() -> None:
    refused = PromotionDecision(promote=False, reasons=("too low", "too slow"))
    assert reason_to_wait(Registry(), refused, [], 1) == "too low; too slow"
    by_hand = Registry(auto_promote=False)
    assert reason_to_wait(by_hand, ALLOWED, [], 1) == (
        "registry.auto_promote is off; `selftrain promote 1` makes it champion: judged"
    )


def test_a_run_promoted_a_version_if_the_last_move_gives_its_own_reasons() -> None:
    assert promoted_by_decision(log(("promote", None, 1), ("refuse", 1, 2)), 1, ALLOWED)
    assert not promoted_by_decision(log(("promote", None, 1), why="by hand"), 1, ALLOWED)
    assert not promoted_by_decision(log(("promote", None, 1), ("promote", 1, 2)), 1, ALLOWED)
    assert not promoted_by_decision([], 1, ALLOWED)


def test_a_move_is_unfinished_while_the_champion_is_the_one_before() -> None:
    moved = log(("promote", None, 1), ("promote", 1, 2), ("refuse", 1, 3))
    assert unfinished_move(moved, 1) == moved[1]
    assert unfinished_move(moved, 2) is None
    assert unfinished_move(moved, 7) is None  # made champion by other means
    assert unfinished_move([], None) is None


def test_champions_stand_in_order_and_a_rollback_removes_the_last() -> None:
    assert champions_in_order(log(("promote", None, 1), ("promote", 1, 2), ("promote", 2, 3))) == [1, 2, 3]
    back = (("promote", None, 1), ("promote", 1, 2), ("rollback", 2, 1))
    assert champions_in_order(log(*back)) == [1]
    assert champions_in_order(log(*back, ("promote", 1, 4), ("refuse", 4, 5))) == [1, 4]
    assert champions_in_order(log(("promote", 9, 1))) == [9, 1]  # 9 was made champion by other means
