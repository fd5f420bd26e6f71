"""Verification: numbers that follow from the stored counts hold, and one that was changed is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from selftrain.evaluate.evaluation import EvaluationReport, evaluate
from selftrain.evaluate.wrong_answers import wrong_answers
from selftrain.report.verification import Outcome, check_answers, check_numbers
from selftrain.selflabel.rounds.record import RunRecord

IMAGES, CLASSES = 120, 3
LABELS = np.random.default_rng(0).integers(0, CLASSES, IMAGES)
IDS = [f"{row:064x}" for row in range(IMAGES)]


def answers(seed: int, *, right: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(CLASSES), IMAGES)
    sure = rng.random(IMAGES) < right
    probs[sure] = 0.1 / CLASSES + 0.9 * np.eye(CLASSES)[LABELS[sure]]
    return probs


OWN = answers(1, right=0.7)


def report() -> EvaluationReport:
    found = evaluate(
        LABELS,
        OWN,
        class_names=("a", "b", "c"),
        reference_probs=answers(2, right=0.5),
        control_probs=answers(3, right=0.6),
        baseline_probs=answers(4, right=0.6),
    )
    return found.model_copy(update={"wrong": wrong_answers(IDS, LABELS, OWN)})


def record(found: EvaluationReport, **changes: Any) -> RunRecord:
    assert found.comparison
    assert found.control
    assert found.baseline
    facts = {
        "test_accuracy": found.accuracy,
        "test_images": found.images,
        "macro_f1": found.macro_f1,
        "difference": found.comparison.difference,
        "p_value": found.comparison.p_value,
        "control_difference": found.control.difference,
        "control_p_value": found.control.p_value,
        "baseline_difference": found.baseline.difference,
        "baseline_p_value": found.baseline.p_value,
    }
    return RunRecord.model_validate({"run_id": "1", "name": "x", "status": "completed", **facts, **changes})


def broken(found: EvaluationReport, of: RunRecord) -> list[str]:
    return [each.what for each in check_numbers(of, found) if each.outcome is Outcome.BROKEN]


def test_numbers_as_a_run_stores_them_hold() -> None:
    found = report()
    checks = check_numbers(record(found), found)
    assert {each.outcome for each in checks} == {Outcome.HOLDS}
    assert len(checks) == 7


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"test_accuracy": 0.99}, "test accuracy"),
        ({"macro_f1": 0.99}, "macro F1"),
        ({"test_images": 119}, "test images"),
        ({"p_value": 0.01}, "comparison with the teacher"),
        ({"control_difference": 0.2}, "comparison with the control"),
        ({"baseline_p_value": None}, "comparison with the baseline"),
    ],
)
def test_a_number_of_the_record_that_was_changed_is_named(change: dict[str, object], named: str) -> None:
    found = report()
    assert broken(found, record(found, **change)) == [named]


def test_a_confusion_matrix_that_was_changed_breaks_what_follows_from_it() -> None:
    found = report()
    rows = [list(row) for row in found.confusion]
    rows[0][0], rows[0][1] = rows[0][0] + 5, rows[0][1] - 5
    other = found.model_copy(update={"confusion": tuple(tuple(row) for row in rows)})
    assert broken(other, record(found))[:3] == ["test accuracy", "its interval", "macro F1"]


def test_counts_that_cannot_be_are_broken_and_not_an_error() -> None:
    found = report()
    assert found.control
    other = found.model_copy(update={"control": found.control.model_copy(update={"n10": 10_000})})
    assert "comparison with the control" in broken(other, record(found))


def test_the_same_answers_hold_and_others_do_not() -> None:
    found, truth = report(), dict(zip(IDS, LABELS.tolist(), strict=True))
    same = dict(zip(IDS, OWN.argmax(axis=1).tolist(), strict=True))
    assert check_answers(found, truth, same).outcome is Outcome.HOLDS
    changed = same | {name: (same[name] + 1) % CLASSES for name in IDS[:5]}
    other = check_answers(found, truth, changed)
    assert other.outcome is Outcome.BROKEN
    assert other.why.startswith("115 of 120")


def test_where_not_all_errors_were_stored_only_the_stored_ones_are_asked_about() -> None:
    found, truth = report(), dict(zip(IDS, LABELS.tolist(), strict=True))
    same = dict(zip(IDS, OWN.argmax(axis=1).tolist(), strict=True))
    fewer = found.model_copy(update={"wrong": found.wrong[:4]})
    assert check_answers(fewer, truth, same).why.startswith("4 of 4")
    none = found.model_copy(update={"wrong": ()})
    assert check_answers(none, truth, same).outcome is Outcome.UNKNOWN
