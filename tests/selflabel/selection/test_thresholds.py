"""Thresholds: golden numbers, naive references, and what stricter means."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.config import Adaptive, Fixed, PerClass, Quantile, TargetPrecision, Threshold
from selftrain.errors import ConfigError, PredictionError
from selftrain.evaluate.coverage import HeldOut
from selftrain.selflabel.selection.adaptive import adaptive_over_pool, class_thresholds
from selftrain.selflabel.selection.target_precision import rule_cutoffs, rules
from selftrain.selflabel.selection.thresholds import accept, check_classes, curriculum_share, decide, describe_threshold

NAMES = ("cat", "dog", "elk")
PROBS = np.array([[0.90, 0.06, 0.04], [0.20, 0.70, 0.10]], dtype=np.float32)


@st.composite
def pools(draw: st.DrawFn) -> npt.NDArray[np.float32]:
    """Pools of 0 to 40 images and 2 to 5 classes, with ties: shares of a few integers."""
    images, classes = draw(st.integers(0, 40)), draw(st.integers(2, 5))
    parts = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(0, 4, (images, classes)) + 0.25
    return (parts / parts.sum(axis=1, keepdims=True)).astype(np.float32)


def names_of(probs: npt.NDArray[np.float32]) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(probs.shape[1]))


def test_a_fixed_threshold_accepts_a_confidence_equal_to_it() -> None:
    assert accept(PROBS, Fixed(value=0.9), round_index=1, class_names=NAMES).tolist() == [True, False]
    assert accept(PROBS, Fixed(value=0.7), round_index=1, class_names=NAMES).tolist() == [True, True]
    assert accept(PROBS, Fixed(value=0.91), round_index=1, class_names=NAMES).tolist() == [False, False]


def test_no_threshold_accepts_everything() -> None:
    assert accept(PROBS, Fixed(value=None), round_index=1, class_names=NAMES).all()


def test_a_per_class_threshold_asks_the_predicted_class() -> None:
    dogs_are_easy = PerClass(values={"dog": 0.6, "cat": 0.95}, default=0.0)
    assert accept(PROBS, dogs_are_easy, round_index=1, class_names=NAMES).tolist() == [False, True]


def test_a_per_class_threshold_accepts_a_confidence_equal_to_it() -> None:
    exact = PerClass(values={"cat": 0.9, "dog": 0.7})
    assert accept(PROBS, exact, round_index=1, class_names=NAMES).all()


def test_a_class_without_a_threshold_of_its_own_takes_the_default() -> None:
    strict_by_default = PerClass(values={"dog": 0.6}, default=0.91)
    assert accept(PROBS, strict_by_default, round_index=1, class_names=NAMES).tolist() == [False, True]


def test_a_per_class_threshold_for_no_class_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"'dgo'.*did you mean 'dog'.*cat, dog, elk"):
        accept(PROBS, PerClass(values={"dgo": 0.5}), round_index=1, class_names=NAMES)


def test_a_class_that_is_none_is_found_before_there_is_a_prediction() -> None:
    with pytest.raises(ConfigError, match=r"'dgo'.*did you mean 'dog'"):
        check_classes(PerClass(values={"dgo": 0.5}), NAMES)
    check_classes(PerClass(values={"dog": 0.5}), NAMES)
    check_classes(Fixed(), NAMES)


def test_a_quantile_accepts_the_most_confident_share() -> None:
    assert accept(PROBS, Quantile(start=0.5), round_index=1, class_names=NAMES).tolist() == [True, False]


def test_the_quantile_share_grows_by_round_and_ends_at_everything() -> None:
    curriculum = Quantile(start=0.2, step=0.2)
    probs = np.full((10, 2), 0.5, dtype=np.float32)
    counts = [accept(probs, curriculum, round_index=r, class_names=("a", "b")).sum() for r in range(1, 8)]
    assert counts == [2, 4, 6, 8, 10, 10, 10]
    assert curriculum_share(curriculum, 0) == curriculum_share(curriculum, 1)


def test_a_quantile_does_not_let_in_a_pile_of_equal_confidences() -> None:
    saturated = np.tile(np.float32([1.0, 0.0]), (100, 1))
    assert accept(saturated, Quantile(start=0.2), round_index=1, class_names=("a", "b")).sum() == 20


@given(pools(), st.floats(0, 1), st.floats(0, 1))
def test_a_stricter_fixed_threshold_accepts_a_subset(probs: npt.NDArray[np.float32], a: float, b: float) -> None:
    loose = accept(probs, Fixed(value=min(a, b)), round_index=1, class_names=names_of(probs))
    strict = accept(probs, Fixed(value=max(a, b)), round_index=1, class_names=names_of(probs))
    assert not (strict & ~loose).any()


@given(pools(), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_stricter_class_accepts_a_subset(probs: npt.NDArray[np.float32], a: float, b: float, other: float) -> None:
    names = names_of(probs)
    loose = accept(probs, PerClass(values={names[0]: min(a, b)}, default=other), round_index=1, class_names=names)
    strict = accept(probs, PerClass(values={names[0]: max(a, b)}, default=other), round_index=1, class_names=names)
    assert not (strict & ~loose).any()


@given(pools(), st.floats(0, 1), st.floats(0, 1))
def test_an_earlier_curriculum_round_accepts_a_subset(
    probs: npt.NDArray[np.float32], start: float, step: float
) -> None:
    curriculum = Quantile(start=start, step=step)
    early, late = (accept(probs, curriculum, round_index=r, class_names=names_of(probs)) for r in (1, 2))
    assert not (early & ~late).any()


@given(pools(), st.floats(0, 1))
def test_a_fixed_threshold_equals_the_rule_written_out(probs: npt.NDArray[np.float32], value: float) -> None:
    expected = [max(row) >= np.float32(value) for row in probs.tolist()]
    assert accept(probs, Fixed(value=value), round_index=1, class_names=names_of(probs)).tolist() == expected


@given(pools(), st.integers(0, 20))
def test_a_quantile_equals_the_rule_written_out(probs: npt.NDArray[np.float32], twentieths: int) -> None:
    count = -(-twentieths * len(probs) // 20)
    first = sorted(range(len(probs)), key=lambda row: (-probs[row].max(), row))[:count]
    got = accept(probs, Quantile(start=twentieths / 20), round_index=1, class_names=names_of(probs))
    assert np.flatnonzero(got).tolist() == sorted(first)


@given(
    pools(),
    st.one_of(st.floats(0.01, 1).map(lambda v: Fixed(value=v)), st.floats(0.1, 1).map(lambda v: Quantile(start=v))),
)
def test_the_drawn_cutoff_is_where_acceptance_begins(probs: npt.NDArray[np.float32], rule: Fixed | Quantile) -> None:
    names = names_of(probs)
    made = decide(probs, rule, round_index=1, class_names=names)
    accepted, line = made.accepted, made.cutoffs[0]
    confidence = probs.max(axis=1) if len(probs) else np.empty(0, np.float32)
    assert (confidence[accepted] >= line).all()
    assert (confidence[~accepted] <= line).all()


def test_the_cutoffs_of_a_per_class_threshold_are_in_label_order() -> None:
    rule = PerClass(values={"elk": 0.5, "cat": 0.75}, default=0.25)
    assert decide(PROBS, rule, round_index=1, class_names=NAMES).cutoffs.tolist() == [0.75, 0.25, 0.5]


def test_a_quantile_of_nothing_has_its_cutoff_above_everything() -> None:
    nothing = decide(PROBS, Quantile(start=0.0), round_index=1, class_names=NAMES)
    assert nothing.cutoffs.tolist() == [np.inf] * 3


def answers(seed: int, images: int, classes: int) -> HeldOut:
    """Sharp answers, 19 of 20 of them right."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 0.1), images).astype(np.float32)
    labels = probs.argmax(axis=1)
    return HeldOut(probs, np.where(rng.random(images) < 0.95, labels, (labels + 1) % classes))


def test_a_target_precision_takes_its_rules_from_the_held_out_labels() -> None:
    held, pool = answers(0, 300, 3), answers(1, 500, 3).probs
    made = decide(pool, TargetPrecision(target=0.8), round_index=1, class_names=NAMES, held_out=held)
    expected = rules(pool.max(axis=1), pool.argmax(axis=1), held, target=0.8)
    assert made.cutoffs.tolist() == rule_cutoffs(expected, classes=3).tolist()
    assert made.accepted.mean() > 0.3
    assert made.findings == ()


def test_a_target_precision_that_cannot_be_shown_accepts_nothing_and_says_why() -> None:
    held, pool = answers(0, 20, 3), answers(1, 100, 3).probs
    made = decide(pool, TargetPrecision(), round_index=1, class_names=NAMES, held_out=held)
    assert not made.accepted.any()
    assert made.findings[-1].startswith("nothing is accepted as all classes: 20 held-out predictions")


def test_a_target_precision_without_held_out_labels_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"target_precision.*hold images out"):
        accept(PROBS, TargetPrecision(), round_index=1, class_names=NAMES)


def test_an_adaptive_threshold_is_freematchs_after_the_pool() -> None:
    pool = answers(2, 300, 3).probs
    rule = Adaptive(momentum=0.9, batch_size=32, steps=100)
    thresholds = class_thresholds(adaptive_over_pool(pool, momentum=0.9, batch_size=32, steps=100))
    expected = pool.max(axis=1) >= thresholds.astype(np.float32)[pool.argmax(axis=1)]
    assert (accept(pool, rule, round_index=1, class_names=NAMES) == expected).all()
    assert 0 < expected.mean() < 1


@pytest.mark.parametrize("threshold", [Fixed(), PerClass(values={}), Quantile(), TargetPrecision(), Adaptive()])
def test_an_empty_pool_is_decided_too(threshold: Threshold) -> None:
    empty = np.empty((0, 3), np.float32)
    made = decide(empty, threshold, round_index=1, class_names=NAMES, held_out=answers(0, 90, 3))
    assert (made.accepted.shape, made.cutoffs.shape) == ((0,), (3,))


def test_many_class_thresholds_are_described_in_short() -> None:
    rule = PerClass(values={f"c{index}": 0.5 for index in range(7)}, default=0.9)
    assert (
        describe_threshold(rule, round_index=1)
        == "per class: c0 0.5, c1 0.5, c2 0.5, c3 0.5, c4 0.5, 2 more, others 0.9"
    )


@pytest.mark.parametrize(
    ("probs", "complaint"),
    [
        ([[np.nan, 0.5, 0.5]], r"1 images \(rows 0\) are not finite"),
        ([[0.2, 0.3, 0.5], [5.0, -4.0, 0.0]], r"rows 1\) lie outside 0\.\.1"),
        ([[1.0, -0.005, 0.0]], r"rows 0\) lie outside 0\.\.1"),
        ([[0.2, 0.3, 0.1]], r"do not sum to one; apply softmax"),
        ([[0.5, 0.5]], r"shape \(1, 2\); allowed is \(images, 3\)"),
        ([0.5, 0.5], r"shape \(2,\)"),
    ],
)
def test_what_is_no_probability_is_refused_with_its_rows(probs: list[list[float]], complaint: str) -> None:
    with pytest.raises(PredictionError, match=complaint):
        accept(probs, Fixed(), round_index=1, class_names=NAMES)
