"""The gate, and the loop it drives: a scripted learner whose validation metric follows a list."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.config import Gate
from selftrain.errors import InputError
from selftrain.selflabel.rounds.gate import explain, judge
from selftrain.selflabel.rounds.history import History, Round, Verdict


@dataclass
class ScriptedLearner:
    """Trains models worth the next number of `metrics` on validation, in `minutes_each`; counts looks at test."""

    metrics: Iterator[float]
    minutes_each: float = 1.0
    minutes: float = 0.0
    test_reads: list[str] = field(default_factory=list)

    def train(self, index: int) -> Round:
        self.minutes += self.minutes_each
        metric = next(self.metrics)
        return Round(
            index=index,
            backbone=f"rung {index}",
            labeled=10,
            validation_accuracy=metric,
            validation_metric=metric,
            seconds=self.minutes_each * 60,
            model_digest=f"model {index}",
        )

    def read_test(self, model: Round) -> None:
        self.test_reads.append(model.model_digest)


def run_loop(
    gate: Gate, metrics: list[float], *, minutes_each: float = 1.0
) -> tuple[Verdict, History, ScriptedLearner]:
    """The sentence of the design: teach, then students until the gate; test once, for the best model."""
    learner = ScriptedLearner(iter(metrics), minutes_each)
    history = History().with_round(learner.train(0))
    while (verdict := judge(gate, history, minutes=learner.minutes)) is Verdict.CONTINUE:
        history = history.with_round(learner.train(len(history.rounds)))
    learner.read_test(history.best)
    return verdict, history, learner


GATE = Gate(target=0.95, min_rounds=1, max_rounds=5, patience=1, min_gain=0.01)


@pytest.mark.parametrize(
    ("gate", "metrics", "verdict", "best"),
    [
        (GATE, [0.90, 0.96], Verdict.PASSED, 1),
        (GATE, [0.90, 0.92, 0.94, 0.95], Verdict.PASSED, 3),
        (GATE, [0.97, 0.96], Verdict.PASSED, 0),
        (GATE, [0.90, 0.905], Verdict.STALLED, 1),
        (GATE, [0.90, 0.80], Verdict.STALLED, 0),
        (GATE, [0.90, math.nan], Verdict.STALLED, 0),
        (GATE, [math.nan, math.nan], Verdict.STALLED, 0),
        (GATE, [math.nan, 0.5, 0.96], Verdict.PASSED, 2),
        (GATE, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], Verdict.EXHAUSTED, 5),
        (GATE.model_copy(update={"max_rounds": 1}), [0.80, 0.90], Verdict.EXHAUSTED, 1),
        (GATE.model_copy(update={"min_rounds": 0}), [0.96], Verdict.PASSED, 0),
        (GATE.model_copy(update={"min_rounds": 0, "max_rounds": 0}), [0.80], Verdict.EXHAUSTED, 0),
        (GATE.model_copy(update={"min_rounds": 2}), [0.96, 0.90, 0.97], Verdict.PASSED, 2),
        (GATE.model_copy(update={"min_rounds": 2}), [0.80, 0.80, 0.80], Verdict.STALLED, 2),
        (GATE.model_copy(update={"patience": 2}), [0.80, 0.79, 0.85, 0.85, 0.85], Verdict.STALLED, 4),
        (GATE.model_copy(update={"patience": 2}), [0.80, 0.806, 0.812, 0.96], Verdict.PASSED, 3),
        (GATE.model_copy(update={"patience": 2}), [0.80, math.nan, math.nan], Verdict.STALLED, 0),
        (GATE.model_copy(update={"min_gain": 0.0}), [0.80, 0.80, 0.79], Verdict.STALLED, 1),
    ],
)
def test_the_loop_ends_with_its_verdict_and_best_model(
    gate: Gate, metrics: list[float], verdict: Verdict, best: int
) -> None:
    said, history, learner = run_loop(gate, metrics)
    assert (said, history.best.index) == (verdict, best)
    assert len(history.rounds) == len(metrics)
    assert learner.test_reads == [f"model {best}"]


def test_a_budget_of_minutes_ends_the_loop() -> None:
    gate = GATE.model_copy(update={"budget_minutes": 3.0})
    said, history, _ = run_loop(gate, [0.1, 0.2, 0.3, 0.4, 0.5], minutes_each=1.5)
    assert said is Verdict.EXHAUSTED
    assert history.students == 1


def test_a_target_reached_when_the_budget_ends_is_passed() -> None:
    said, _, _ = run_loop(GATE.model_copy(update={"budget_minutes": 2.0}), [0.1, 0.96])
    assert said is Verdict.PASSED


def test_the_budget_binds_before_the_least_rounds() -> None:
    gate = GATE.model_copy(update={"min_rounds": 3, "budget_minutes": 2.0})
    assert run_loop(gate, [0.96, 0.97, 0.98])[0] is Verdict.EXHAUSTED


def test_a_target_of_zero_is_not_passed_by_nan() -> None:
    assert run_loop(GATE.model_copy(update={"target": 0.0}), [math.nan, math.nan])[0] is Verdict.STALLED


def test_a_gain_of_exactly_the_least_one_goes_on_in_spite_of_rounding() -> None:
    assert 0.57 - 0.56 < 0.01
    assert run_loop(GATE, [0.56, 0.57, 0.96])[0] is Verdict.PASSED


def test_one_round_before_the_end_the_loop_continues() -> None:
    gate = GATE.model_copy(update={"max_rounds": 2})
    learner = ScriptedLearner(iter([0.5, 0.6]))
    history = History().with_round(learner.train(0)).with_round(learner.train(1))
    assert judge(gate, history, minutes=0.0) is Verdict.CONTINUE


def test_an_empty_history_cannot_be_judged() -> None:
    with pytest.raises(InputError, match="train the teacher first"):
        judge(GATE, History(), minutes=0.0)


gates = st.builds(
    lambda target, least, more, patience, gain: Gate(
        target=target, min_rounds=least, max_rounds=least + more, patience=patience, min_gain=gain
    ),
    st.floats(0, 1),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(1, 3),
    st.floats(0, 0.2),
)


@given(gates, st.lists(st.floats(0, 1) | st.just(math.nan), min_size=7, max_size=7))
def test_every_loop_ends_within_its_rounds_and_reads_test_once(gate: Gate, metrics: list[float]) -> None:
    verdict, history, learner = run_loop(gate, metrics)
    assert gate.min_rounds <= history.students <= gate.max_rounds
    assert len(learner.test_reads) == 1
    if verdict is Verdict.PASSED:
        assert history.best.validation_metric >= gate.target - 1e-6


@given(gates, st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_no_loop_that_reached_its_target_is_called_missed(gate: Gate, metrics: list[float]) -> None:
    verdict, history, _ = run_loop(gate, metrics)
    assert (verdict is Verdict.PASSED) or history.best.validation_metric < gate.target


@pytest.mark.parametrize(
    ("gate", "metrics", "minutes_each", "sentence"),
    [
        (GATE, [0.9, 0.96], 1.0, "validation accuracy 0.9600 (round 1) reached the target 0.95 after 1 round"),
        (
            GATE.model_copy(update={"metric": "macro_f1"}),
            [0.9, 0.9],
            1.0,
            "validation macro f1 0.9000 (round 1) is below the target 0.95: no gain of 0.01 in the last round; "
            "add labels, or lower the target",
        ),
        (
            GATE.model_copy(update={"max_rounds": 2}),
            [0.5, 0.6, 0.7],
            1.0,
            "validation accuracy 0.7000 (round 2) is below the target 0.95 after 2 rounds, "
            "all that gate.max_rounds allows",
        ),
        (
            GATE.model_copy(update={"budget_minutes": 2.5}),
            [0.5, 0.6],
            1.5,
            "validation accuracy 0.6000 (round 1) with the target 0.95: 3.0 of 2.5 minutes are spent after 1 round; "
            "raise gate.budget_minutes",
        ),
    ],
)
def test_the_verdict_is_explained_in_one_sentence(
    gate: Gate, metrics: list[float], minutes_each: float, sentence: str
) -> None:
    verdict, history, learner = run_loop(gate, metrics, minutes_each=minutes_each)
    assert explain(verdict, gate, history, minutes=learner.minutes) == sentence
