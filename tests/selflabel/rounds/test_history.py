"""Rounds: which model is kept, which teaches, and that a history survives JSON."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.config import Gate
from selftrain.errors import InputError
from selftrain.selflabel.rounds.gate import judge
from selftrain.selflabel.rounds.history import History, Round, Verdict


def scored(index: int, metric: float, *, images: int = 0, log_loss: float | None = None) -> Round:
    return Round(
        index=index,
        backbone=f"rung {index}",
        labeled=100,
        validation_accuracy=metric,
        validation_metric=metric,
        validation_images=images,
        validation_log_loss=log_loss,
        seconds=1.5,
        model_digest=f"digest {index}",
    )


def history_of(*metrics: float) -> History:
    history = History()
    for index, metric in enumerate(metrics):
        history = history.with_round(scored(index, metric))
    return history


def kept(history: History) -> list[bool]:
    return [each.kept for each in history.rounds]


def test_the_first_teacher_is_kept_whatever_it_is_worth() -> None:
    assert kept(history_of(0.1)) == [True]
    assert kept(history_of(math.nan)) == [True]


def test_a_student_worse_than_its_teacher_is_not_kept_and_does_not_teach() -> None:
    history = history_of(0.9, 0.8)
    assert kept(history) == [True, False]
    assert history.teacher.index == 0


@pytest.mark.parametrize(
    ("metric", "log_loss", "images", "taken"),
    [
        (0.92, 0.15, 150, True),  # one standard error of the difference is 0.0306
        (0.91, 0.15, 150, False),
        (0.94, 0.21, 150, False),
        (0.94, 0.20, 150, False),
        (0.94, 0.15, 1500, False),
        (0.94, None, 150, False),
        (0.94, math.nan, 150, False),
        (math.nan, 0.15, 150, False),
    ],
)
def test_less_than_one_standard_error_behind_its_teacher_the_log_loss_decides(
    metric: float, log_loss: float | None, images: int, taken: bool
) -> None:
    teacher = scored(0, 0.95, images=images, log_loss=0.2)
    history = History().with_round(teacher).with_round(scored(1, metric, images=images, log_loss=log_loss))
    assert kept(history) == [True, taken]
    assert history.best == history.teacher == history.rounds[int(taken)]
    (alarm,) = history.alarms
    assert alarm.action == ("warn" if taken else "keep_teacher")
    assert ("kept for its lower log loss" in alarm.reason) == taken


def test_undecided_students_do_not_lead_away_step_by_step() -> None:
    history = History().with_round(scored(0, 0.95, images=150, log_loss=0.2))
    for index, metric in enumerate((0.93, 0.91, 0.9), start=1):
        history = history.with_round(scored(index, metric, images=150, log_loss=0.2 - 0.01 * index))
    assert kept(history) == [True, True, False, False]


@pytest.mark.parametrize(("target", "taken"), [(0.93, True), (0.945, False), (0.96, True)])
def test_an_undecided_student_does_not_cost_the_gate_that_its_teacher_passes(target: float, taken: bool) -> None:
    history = History().with_round(scored(0, 0.95, images=150, log_loss=0.2))
    history = history.with_round(scored(1, 0.94, images=150, log_loss=0.1), target=target)
    assert kept(history) == [True, taken]
    assert ("below the gate's target" in history.alarms[0].reason) != taken
    gate = Gate(target=target, max_rounds=1)
    assert judge(gate, history, minutes=0) is (Verdict.PASSED if target < 0.95 else Verdict.STALLED)


@pytest.mark.parametrize(("right", "taken"), [(149, True), (148, True), (147, False)])
def test_two_images_of_150_do_not_refuse_the_student_of_a_teacher_without_a_mistake(right: int, taken: bool) -> None:
    history = History().with_round(scored(0, 1.0, images=150, log_loss=0.02))
    student = scored(1, right / 150, images=150, log_loss=0.01)
    assert kept(history.with_round(student)) == [True, taken]


def test_a_student_as_good_as_its_teacher_takes_its_place() -> None:
    history = history_of(0.9, 0.9)
    assert kept(history) == [True, True]
    assert history.teacher.index == 1


def test_a_student_is_compared_with_its_own_teacher_not_with_the_last_round() -> None:
    assert kept(history_of(0.9, 0.7, 0.8, 0.95)) == [True, False, False, True]


def test_a_student_without_a_number_is_not_kept() -> None:
    assert kept(history_of(0.9, math.nan)) == [True, False]


def test_any_number_is_better_than_a_teacher_without_one() -> None:
    history = history_of(math.nan, math.nan, 0.2)
    assert kept(history) == [True, False, True]
    assert history.best.index == 2


def test_first_teacher_and_latest_are_the_ends() -> None:
    history = history_of(0.9, 0.95, 0.7)
    assert (history.first_teacher.index, history.latest.index, history.students) == (0, 2, 2)


def test_what_the_caller_says_about_kept_is_not_believed() -> None:
    history = history_of(0.9).with_round(scored(1, 0.5).model_copy(update={"kept": True}))
    assert kept(history) == [True, False]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, math.nan]), min_size=1, max_size=8))
def test_the_teacher_is_always_the_best_kept_model(metrics: list[float]) -> None:
    history = history_of(*metrics)
    numbers = [each.validation_metric for each in history.rounds if not math.isnan(each.validation_metric)]
    assert history.best.validation_metric == max(numbers) if numbers else history.best.index == 0
    numbers = [metric for metric in metrics if not math.isnan(metric)]
    if numbers:
        assert history.best.validation_metric == max(numbers)


@given(st.lists(st.sampled_from([0.0, 1 / 3, 1.0, math.nan, math.inf]), max_size=4))
def test_a_history_survives_json(metrics: list[float]) -> None:
    history = history_of(*metrics)
    text = history.model_dump_json()
    assert History.model_validate_json(text).model_dump_json() == text
    assert kept(History.model_validate_json(text)) == kept(history)


def test_a_history_with_a_missing_round_is_refused() -> None:
    with pytest.raises(InputError, match=r"indices \[1\].*counts up from the teacher's 0"):
        History(rounds=(scored(1, 0.5),))


def test_an_empty_history_has_no_teacher() -> None:
    with pytest.raises(InputError, match="train the teacher first"):
        _ = History().teacher


def test_a_model_that_was_short_of_memory_is_named_and_kept() -> None:
    short = scored(0, 0.8).model_copy(update={"batch_parts": 2})
    history = History().with_round(short).with_round(scored(1, 0.9))
    assert kept(history) == [True, True]
    assert [str(each) for each in history.alarms] == [
        "round 0: memory ran out in training, so each batch was taken in two halves; lower batch_size to avoid this "
        "(memory: a warning only)"
    ]


def test_a_student_that_diverged_is_an_alarm_with_its_reason_and_the_teacher_is_kept() -> None:
    lost = scored(1, math.nan).model_copy(update={"diverged": "the loss became nan at step 3 of 60; lower it"})
    history = history_of(0.9).with_round(lost)
    [alarm] = history.alarms
    assert (alarm.guard, alarm.action, alarm.round) == ("nan", "keep_teacher", 1)
    assert "the loss became nan at step 3 of 60; lower it" in str(alarm)
    assert history.teacher.index == history.best.index == 0
    assert History.model_validate_json(history.model_dump_json()).latest.diverged == lost.diverged
