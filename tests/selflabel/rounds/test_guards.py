"""The guards: each goes off just beyond its limit, says why, and acts as configured."""

import numpy as np
import pytest

from selftrain.config import Fixed, Gate, GuardAction, Guards, Method, PseudoLabel, Student
from selftrain.errors import PredictionError
from selftrain.learn.training.defaults import finish
from selftrain.selflabel.rounds.alarms import Alarm
from selftrain.selflabel.rounds.gate import explain, judge
from selftrain.selflabel.rounds.guards import mix_shift, watch, watch_student
from selftrain.selflabel.rounds.history import History, Round, Verdict
from selftrain.selflabel.rounds.recipes import control_recipe
from selftrain.selflabel.rounds.results import with_round_of
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select

NAMES = ("ant", "bee", "cow")
OFF = Guards(acceptance=None, class_mix=None, empty_classes=None, churn=None)


def labels(predicted: list[int], *, sure: int | None = None, round_index: int = 1) -> PseudoLabels:
    """Pseudo-labels of the classes in `predicted`; only the first `sure` are confident enough to be accepted."""
    confidence = np.full(len(predicted), 0.5)
    confidence[: len(predicted) if sure is None else sure] = 0.9
    probs = np.repeat(((1 - confidence) / 2)[:, None], 3, axis=1)
    probs[np.arange(len(predicted)), predicted] = confidence
    ids = [f"image {i:03d}" for i in range(len(predicted))]
    settings = PseudoLabel(threshold=Fixed(value=0.8))
    return select(ids, probs, settings, round_index=round_index, teacher="t", class_names=NAMES)


def trained(index: int, metric: float) -> Round:
    return Round(
        index=index,
        backbone="b",
        labeled=9,
        validation_accuracy=metric,
        validation_metric=metric,
        seconds=1.0,
        model_digest=str(index),
    )


def alarm(action: str, *, round_index: int = 1) -> Alarm:
    return Alarm.model_validate(
        {"guard": "churn", "round": round_index, "value": 0.5, "limit": 0.3, "reason": "it turned", "action": action}
    )


def guards_of(alarms: tuple[Alarm, ...]) -> list[str]:
    return [each.guard for each in alarms]


def test_healthy_labels_raise_no_alarm() -> None:
    healthy = labels([0, 1, 2] * 10)
    assert watch(Guards(), healthy, prior=[3, 3, 3]) == ()
    assert watch_student(Guards(), 0.1, round_index=1) == ()


@pytest.mark.parametrize(("least", "goes_off"), [(0.1, False), (0.11, True)])
def test_acceptance_goes_off_below_its_limit(least: float, goes_off: bool) -> None:
    found = watch(OFF.model_copy(update={"acceptance": least}), labels([0, 1, 2] * 10, sure=3), prior=[1, 1, 1])
    assert guards_of(found) == (["acceptance"] if goes_off else [])
    assert all("10.0% of 30 images were accepted, less than 11.0%" in each.reason for each in found)


def test_nothing_accepted_is_one_alarm_not_four() -> None:
    assert guards_of(watch(Guards(), labels([0, 0, 0], sure=0), prior=[1, 1, 1])) == ["acceptance"]


def test_a_shifted_class_mix_names_the_class_that_moved_most() -> None:
    found = watch(OFF.model_copy(update={"class_mix": 0.3}), labels([0] * 8 + [1, 2]), prior=[5, 5, 5])
    assert guards_of(found) == ["class_mix"]
    assert found[0].value == pytest.approx(0.8 - 1 / 3)
    assert "'ant': 80.0% of the accepted, 33.3% of the labels" in found[0].reason


def test_a_rare_class_of_the_labels_may_be_rare_among_the_accepted() -> None:
    assert watch(OFF.model_copy(update={"class_mix": 0.0}), labels([0, 0, 0, 1]), prior=[75, 25, 0]) == ()


def test_empty_classes_are_named_and_may_be_allowed() -> None:
    found = watch(OFF.model_copy(update={"empty_classes": 0}), labels([0, 0, 1]), prior=[1, 1, 1])
    assert "as cow" in found[0].reason
    assert watch(OFF.model_copy(update={"empty_classes": 1}), labels([0, 0, 1]), prior=[1, 1, 1]) == ()


@pytest.mark.parametrize(
    ("limit", "churn", "goes_off"), [(0.4, 0.5, True), (0.5, 0.5, False), (None, 0.9, False), (0.4, None, False)]
)
def test_churn_goes_off_above_its_limit(limit: float | None, churn: float | None, goes_off: bool) -> None:
    found = watch_student(OFF.model_copy(update={"churn": limit}), churn, round_index=2)
    assert [(each.guard, each.round, each.value, each.limit) for each in found] == [("churn", 2, 0.5, 0.4)] * goes_off
    assert all("disagrees with its teacher on 50.0% of the pool" in each.reason for each in found)


@pytest.mark.parametrize(
    ("action", "method", "best", "stopped"),
    [
        ("warn", "noisy_student", 1, False),
        ("keep_teacher", "noisy_student", 0, False),
        ("stop", "noisy_student", 0, True),
        ("stop", "fixmatch", 1, False),
        ("keep_teacher", "fixmatch", 1, False),
    ],
)
def test_a_student_of_too_much_churn_is_kept_or_not_as_configured(
    action: GuardAction, method: Method, best: int, stopped: bool
) -> None:
    history = History().with_round(trained(0, 0.5))
    student = trained(1, 0.9).model_copy(update={"churn": 0.6, "method": method})
    history = with_round_of(history, Guards(actions={"churn": action}), Gate(), student)
    assert guards_of(history.alarms) == ["churn"]
    assert (history.best.index, history.stopped) == (best, stopped)


def test_guards_that_are_off_say_nothing() -> None:
    assert watch(OFF, labels([0, 0, 0], sure=0), prior=[1, 1, 1]) == ()


def test_the_configured_action_is_taken() -> None:
    found = watch(Guards(actions={"acceptance": "stop"}), labels([0], sure=0), prior=[1, 1, 1])
    assert found[0].action == "stop"


def test_a_prior_of_other_classes_is_refused() -> None:
    with pytest.raises(PredictionError, match=r"shape \(2,\) for 3 classes"):
        watch(Guards(), labels([0]), prior=[1, 1])


def test_mix_shift_of_nothing_accepted_is_half() -> None:
    assert mix_shift([0, 0], [1, 1]) == 0.5


def test_keep_teacher_refuses_a_better_student_of_that_round_only() -> None:
    history = History().with_round(trained(0, 0.5)).with_alarms((alarm("keep_teacher"),))
    history = history.with_round(trained(1, 0.9))
    assert not history.latest.kept
    assert history.with_round(trained(2, 0.8)).latest.kept
    assert history.best.index == 0


def test_a_warning_keeps_the_student() -> None:
    history = History().with_round(trained(0, 0.5)).with_alarms((alarm("warn"),)).with_round(trained(1, 0.9))
    assert history.best.index == 1


@pytest.mark.parametrize(("metric", "guard"), [(0.4, "worse_student"), (float("nan"), "nan")])
def test_a_student_that_is_worse_or_nan_is_an_alarm_and_not_kept(metric: float, guard: str) -> None:
    history = History().with_round(trained(0, 0.5)).with_round(trained(1, metric))
    assert not history.latest.kept
    assert guards_of(history.alarms) == [guard]
    assert "the student is not kept" in str(history.alarms[0])
    assert History.model_validate_json(history.model_dump_json()).alarms[0].guard == guard


def test_stop_ends_the_loop_with_a_verdict_that_says_so() -> None:
    gate = Gate(target=0.9, min_rounds=1, max_rounds=5)
    history = History().with_round(trained(0, 0.5)).with_alarms((alarm("stop"),))
    verdict = judge(gate, history, minutes=0)
    assert verdict is Verdict.STALLED
    assert "a guard stopped the loop after 0 rounds" in explain(verdict, gate, history, minutes=0)


def test_the_control_spends_what_the_best_model_and_its_kept_teachers_spent() -> None:
    def spending(index: int, metric: float, image_steps: int) -> Round:
        return trained(index, metric).model_copy(update={"image_steps": image_steps})

    history = History().with_round(spending(0, 0.5, 1600)).with_round(spending(1, 0.4, 3200))
    history = history.with_round(spending(2, 0.9, 4800))
    pretrained = {"backbone": "efficientnet_b0", "weights": "imagenet", "freeze_steps": 145}
    student = Student(steps=290, finish_steps=10, batch_size=16, **pretrained)
    recipe = control_recipe(student, history)
    assert (recipe.steps + finish(recipe)) * recipe.batch_size == 1600 + 4800
    assert recipe.freeze_steps == recipe.steps / 2
    assert recipe.min_human_share == 1.0
