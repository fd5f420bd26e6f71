"""Evaluation: one report with every number, compared with a reference on the same images."""

import json
import math

import numpy as np
import numpy.typing as npt
import pytest

from selftrain.errors import PredictionError
from selftrain.evaluate.evaluation import (
    Comparison,
    ComparisonResult,
    EvaluationReport,
    compare,
    evaluate,
    evaluate_part,
)
from selftrain.evaluate.statistics.intervals import Interval, paired_difference

NAMES = ("cat", "dog", "elk")


def answers(predicted: list[int]) -> npt.NDArray[np.float64]:
    """Probabilities that say `predicted` with confidence 0.8."""
    return np.full((len(predicted), 3), 0.1) + 0.7 * np.eye(3)[predicted]


LABELS = [0, 0, 1, 1, 2, 2, 2, 2]
MODEL = answers([0, 0, 1, 1, 2, 2, 2, 0])
TEACHER = answers([0, 1, 1, 0, 2, 2, 0, 2])


def test_a_report_holds_the_numbers_of_its_images() -> None:
    report = evaluate(LABELS, MODEL, class_names=NAMES)
    assert (report.images, report.accuracy) == (8, 7 / 8)
    assert report.interval == pytest.approx((0.5291, 0.9776), abs=1e-4)
    assert report.confusion == ((2, 0, 0), (0, 2, 0), (1, 0, 3))
    assert [(c.name, c.support, c.recall) for c in report.per_class] == [("cat", 2, 1), ("dog", 2, 1), ("elk", 4, 0.75)]
    assert report.macro_f1 == pytest.approx((4 / 5 + 1 + 6 / 7) / 3)
    assert report.calibration_error == pytest.approx(0.075)
    assert (report.metric("accuracy"), report.metric("macro_f1")) == (report.accuracy, report.macro_f1)
    assert report.class_names == NAMES
    assert report.comparison is None


def test_the_comparison_is_paired_image_by_image() -> None:
    compared = evaluate(LABELS, MODEL, class_names=NAMES, reference_probs=TEACHER).comparison
    assert compared is not None
    assert (compared.n10, compared.n01) == (3, 1)
    assert (compared.reference, compared.difference) == (5 / 8, 2 / 8)
    assert compared.p_value == pytest.approx(0.625)
    assert compared.finding is ComparisonResult.UNDECIDED
    expected = paired_difference(both=4, only_first=3, only_second=1, neither=0)
    assert compared.difference_interval == pytest.approx(expected)


def test_the_part_of_a_test_set_has_the_numbers_of_its_images_alone() -> None:
    probs, reference = np.eye(2)[[0, 0, 1, 1, 1]], np.eye(2)[[0, 1, 1, 1, 0]]
    part = evaluate_part([0, 0, 1, 0, 0], probs, np.array([True, True, False, True, False]), reference_probs=reference)
    assert part is not None
    assert (part.images, part.accuracy) == (3, pytest.approx(2 / 3))
    assert part.comparison is not None
    assert (part.comparison.n10, part.comparison.n01) == (1, 0)


def test_a_test_set_without_an_image_of_the_version_before_has_no_such_part() -> None:
    assert evaluate_part([0], np.eye(2)[[0]], np.array([False]), reference_probs=np.eye(2)[[0]]) is None


def test_a_model_against_itself_differs_in_nothing() -> None:
    compared = compare(LABELS, MODEL, MODEL)
    assert (compared.difference, compared.n10, compared.n01, compared.p_value) == (0.0, 0, 0, 1.0)
    assert compared.finding is ComparisonResult.UNDECIDED


def test_the_finding_has_a_direction() -> None:
    labels, right, wrong = [0] * 8, answers([0] * 8), answers([1] * 8)
    assert compare(labels, right, wrong).finding is ComparisonResult.BETTER
    assert compare(labels, wrong, right).finding is ComparisonResult.WORSE
    assert compare(labels, right, wrong, alpha=0.001).finding is ComparisonResult.UNDECIDED
    assert compare(labels[:5], right[:5], wrong[:5], alpha=0.0625).finding is ComparisonResult.UNDECIDED
    assert (compare(labels, right, wrong).n10, compare(labels, right, wrong).n01) == (8, 0)
    assert (compare(labels, right, wrong).difference, compare(labels, wrong, right).difference) == (1.0, -1.0)


def by_mean_precision(*, difference: float, p_value: float) -> Comparison:
    """A comparison by a metric that counts no images."""
    return Comparison(
        metric="mean_average_precision",
        reference=0.4,
        reference_interval=Interval(0.35, 0.45),
        difference=difference,
        difference_interval=Interval(difference - 0.02, difference + 0.02),
        p_value=p_value,
        alpha=0.05,
        test="bootstrap",
    )


@pytest.mark.parametrize(
    ("difference", "p_value", "finding"),
    [
        (0.03, 0.01, ComparisonResult.BETTER),
        (-0.03, 0.01, ComparisonResult.WORSE),
        (0.03, 0.05, ComparisonResult.UNDECIDED),
        (0.03, math.nan, ComparisonResult.UNDECIDED),
        (-0.03, math.nan, ComparisonResult.UNDECIDED),
    ],
)
def test_a_metric_without_counts_is_decided_by_its_p_value(
    difference: float, p_value: float, finding: ComparisonResult
) -> None:
    assert by_mean_precision(difference=difference, p_value=p_value).finding is finding


def test_a_comparison_names_its_counts_or_its_interval() -> None:
    assert compare(LABELS, MODEL, TEACHER).counts == "3 images won, 1 lost"
    by_interval = "difference in mean_average_precision +0.0300 (+0.0100 to +0.0500)"
    assert by_mean_precision(difference=0.03, p_value=0.01).counts == by_interval


def test_a_comparison_without_counts_survives_json() -> None:
    compared = by_mean_precision(difference=0.03, p_value=0.01)
    assert Comparison.model_validate_json(compared.model_dump_json()) == compared


def test_a_class_that_is_never_seen_has_no_scores() -> None:
    report = evaluate([0, 1], answers([0, 0]), class_names=NAMES)
    assert [scores.precision for scores in report.per_class] == [0.5, None, None]
    assert [scores.recall for scores in report.per_class] == [1.0, 0.0, None]


def test_a_report_survives_json() -> None:
    report = evaluate(LABELS, MODEL, class_names=NAMES, reference_probs=TEACHER)
    text = report.model_dump_json()
    assert EvaluationReport.model_validate_json(text) == report
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_nan_answers_give_an_error_not_a_report() -> None:
    with pytest.raises(PredictionError, match="rows 0, 1, 2, 3, 4"):
        evaluate(LABELS, np.full((8, 3), np.nan), class_names=NAMES)
    with pytest.raises(PredictionError, match="not finite"):
        evaluate(LABELS, MODEL, class_names=NAMES, reference_probs=np.full((8, 3), np.nan))


def test_a_reference_on_other_images_is_refused() -> None:
    with pytest.raises(PredictionError, match=r"shape \(8,\) for 7 images"):
        evaluate(LABELS, MODEL, class_names=NAMES, reference_probs=TEACHER[:7])


def test_a_reference_of_other_classes_is_refused() -> None:
    with pytest.raises(PredictionError, match=r"allowed is \(images, 3\)"):
        evaluate(LABELS, MODEL, class_names=NAMES, reference_probs=np.full((8, 2), 0.5))
