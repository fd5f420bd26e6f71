"""Target precision: where the walk starts and stops, which classes share a rule, and whether the promise is kept."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.evaluate.coverage import HeldOut, candidate_cutoffs
from selftrain.evaluate.statistics.exact import fewest_images, lower_bound
from selftrain.selflabel.selection.target_precision import (
    groups_of,
    lowest_cutoff,
    precision_findings,
    rule_cutoffs,
    rules,
)

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

EVERY = np.linspace(0.5, 1, 101, dtype=np.float32)  # a pool with a candidate at each half percent


def held(confidence: Floats, predicted: npt.NDArray[np.int64], right: Mask, *, classes: int) -> HeldOut:
    """Answers with these confidences (above 0.5) and predictions; a wrong one's label is the next class."""
    probs = np.repeat(((1 - confidence) / (classes - 1))[:, None], classes, axis=1)
    probs[np.arange(len(confidence)), predicted] = confidence
    return HeldOut(probs.astype(np.float32), np.where(right, predicted, (predicted + 1) % classes))


def test_the_walk_goes_down_to_the_last_cutoff_before_a_failure() -> None:
    confidence = np.float32([0.9] * 30 + [0.8] * 30 + [0.7] * 30)
    right = np.array([True] * 60 + [True] * 15 + [False] * 15)
    reached = lowest_cutoff(EVERY, confidence, right, target=0.9)
    assert 0.7 < reached.cutoff <= 0.8
    assert (reached.images, reached.right) == (60, 60)
    assert reached.bound == pytest.approx(0.05 ** (1 / 60))


def test_a_cutoff_below_a_failure_is_not_taken_however_good_it_is() -> None:
    confidence = np.float32([0.9] * 40 + [0.8] * 30 + [0.7] * 50)
    right = np.array([True] * 40 + [False] * 30 + [True] * 50)
    assert lower_bound([90], [120])[0] > 0.6
    assert 0.8 < lowest_cutoff(EVERY, confidence, right, target=0.6).cutoff <= 0.9


def test_the_walk_starts_where_enough_images_are_above_the_cutoff() -> None:
    confidence = np.float32([0.95] * 10 + [0.85] * 19)
    everything_right = np.ones(29, np.bool_)
    assert lowest_cutoff(EVERY, confidence, everything_right, target=0.9).passed
    assert lowest_cutoff(EVERY, confidence, everything_right, target=0.9).images == 29
    assert not lowest_cutoff(EVERY, confidence[:28], everything_right[:28], target=0.9).passed


def test_the_walk_starts_at_a_third_of_the_images_where_that_is_more() -> None:
    confidence = np.float32([0.95] * 30 + [0.85] * 70 + [0.75] * 200)
    right = np.array([False] + [True] * 299)
    assert lower_bound([29], [30])[0] < 0.9
    assert lowest_cutoff(EVERY, confidence, right, target=0.9).images == 300


def test_one_wrong_answer_among_the_fewest_stops_the_walk_at_its_start() -> None:
    right = np.array([True] * 28 + [False])
    reached = lowest_cutoff(EVERY, np.full(29, 0.9, np.float32), right, target=0.9)
    assert reached.cutoff == math.inf
    assert (reached.images, reached.right) == (29, 28)


def test_without_a_pool_nothing_is_tested() -> None:
    reached = lowest_cutoff(np.empty(0, np.float32), np.full(99, 0.9, np.float32), np.ones(99, np.bool_), target=0.9)
    assert (reached.cutoff, reached.images) == (math.inf, 0)


def naive_walk(pool: Floats, confidence: Floats, right: Mask, target: float) -> float:
    """The rule written out, a cut-off at a time."""
    answer, fewest = math.inf, max(fewest_images(target), len(confidence) // 3)
    cutoffs = candidate_cutoffs(pool).tolist()
    if cutoffs and sum(sure >= cutoffs[-1] for sure in confidence.tolist()) < fewest:
        cutoffs = [0.0]
    for cutoff in cutoffs:
        above = [ok for sure, ok in zip(confidence.tolist(), right.tolist(), strict=True) if sure >= cutoff]
        if len(above) < fewest:
            continue
        if lower_bound([sum(above)], [len(above)])[0] < target:
            break
        answer = cutoff
    return answer


@given(st.integers(0, 2**32 - 1), st.integers(0, 150), st.integers(0, 200), st.sampled_from([0.6, 0.8, 0.9]))
@settings(max_examples=60)
def test_the_cutoff_equals_the_walk_written_out(seed: int, images: int, pool_images: int, target: float) -> None:
    rng = np.random.default_rng(seed)
    confidence = (rng.integers(10, 21, images) / 20).astype(np.float32)
    right = rng.random(images) < confidence**0.3
    pool = (rng.integers(10, 21, pool_images) / 20).astype(np.float32)
    assert lowest_cutoff(pool, confidence, right, target=target).cutoff == naive_walk(pool, confidence, right, target)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.6, 0.8, 0.9]))
@settings(max_examples=60)
def test_more_wrong_answers_never_lower_the_cutoff(seed: int, target: float) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, 200).astype(np.float32)
    right = rng.random(200) < confidence**0.3
    fewer = right & (rng.random(200) < 0.97)
    before, after = (lowest_cutoff(EVERY, confidence, each, target=target).cutoff for each in (right, fewer))
    assert after >= before


def test_each_class_with_enough_answers_has_a_rule_of_its_own() -> None:
    predicted = np.repeat([0, 1], 60)
    confidence = np.tile(np.linspace(0.99, 0.6, 60, dtype=np.float32), 2)
    right = np.ones(120, np.bool_)
    right[60 + 35 :] = False
    pool, pool_predicted = np.repeat(EVERY[20:], 2), np.arange(162) % 2
    made = rules(pool, pool_predicted, held(confidence, predicted, right, classes=2), target=0.9)
    assert [rule.classes for rule in made] == [(0,), (1,)]
    cutoffs = rule_cutoffs(made, classes=2)
    assert cutoffs[0] == pytest.approx(0.6, abs=0.01)
    assert 0.7 < cutoffs[1] < 0.8


def test_classes_with_too_few_answers_share_a_rule_and_the_record_says_so() -> None:
    predicted = np.repeat([0, 1, 2], [60, 20, 20])
    answers = held(np.full(100, 0.9, np.float32), predicted, np.ones(100, np.bool_), classes=3)
    made = rules(np.full(300, 0.9, np.float32), np.arange(300) % 3, answers, target=0.9)
    assert [(rule.classes, rule.held_out) for rule in made] == [((0,), 60), ((1, 2), 40)]
    assert rule_cutoffs(made, classes=3).tolist() == pytest.approx([0.9] * 3)
    assert precision_findings(made, target=0.9, class_names=("cat", "dog", "elk")) == (
        "dog, elk share a threshold, measured on their 40 held-out predictions together",
    )


def test_where_not_even_the_pooled_rule_can_pass_nothing_is_accepted_and_the_reason_is_said() -> None:
    answers = held(np.full(20, 0.9, np.float32), np.arange(20) % 2, np.ones(20, np.bool_), classes=2)
    made = rules(np.full(50, 0.9, np.float32), np.arange(50) % 2, answers, target=0.9)
    assert np.isinf(rule_cutoffs(made, classes=2)).all()
    assert precision_findings(made, target=0.9, class_names=("cat", "dog"))[-1] == (
        "nothing is accepted as all classes: "
        "20 held-out predictions, and a precision of 0.9 needs 29, all of them right"
    )


def test_a_class_that_is_often_wrong_is_refused_with_the_numbers_that_show_it() -> None:
    predicted = np.repeat([0, 1], [60, 60])
    right = np.array([True] * 60 + [True, False] * 30)
    answers = held(np.full(120, 0.9, np.float32), predicted, right, classes=2)
    made = rules(np.full(200, 0.9, np.float32), np.arange(200) % 2, answers, target=0.9)
    assert np.isinf(rule_cutoffs(made, classes=2)).tolist() == [False, True]
    bound = lower_bound([30], [60])[0]
    assert precision_findings(made, target=0.9, class_names=("cat", "dog")) == (
        "nothing is accepted as dog: 30 of the 60 most confident held-out predictions are right, which shows a "
        f"precision of {bound:.3f}, not 0.9",
    )


def test_classes_that_fail_alone_are_measured_together() -> None:
    predicted = np.repeat([0, 1, 2], [60, 60, 60])
    right = np.ones(180, np.bool_)
    right[[0, 1, 2, 60, 61, 62]] = False
    answers = held(np.full(180, 0.9, np.float32), predicted, right, classes=3)
    pool, pool_predicted = np.full(300, 0.9, np.float32), np.arange(300) % 3
    assert lower_bound([57], [60])[0] < 0.9 < lower_bound([114], [120])[0]
    made = rules(pool, pool_predicted, answers, target=0.9)
    assert [(rule.classes, rule.reached.images) for rule in made] == [((2,), 60), ((0, 1), 120)]
    assert rule_cutoffs(made, classes=3).tolist() == pytest.approx([0.9] * 3)


@pytest.mark.parametrize(("wrong", "cutoff"), [(0, 0.0), (5, math.inf)])
def test_a_pool_surer_than_the_held_out_images_is_accepted_if_these_are_right(wrong: int, cutoff: float) -> None:
    right = np.arange(60) >= wrong
    reached = lowest_cutoff(np.full(50, 0.9, np.float32), np.full(60, 0.7, np.float32), right, target=0.9)
    assert (reached.cutoff, reached.images, reached.right) == (cutoff, 60, 60 - wrong)


def test_a_class_that_no_image_of_the_pool_is_taken_for_is_said_to_be_so() -> None:
    answers = held(np.full(80, 0.7, np.float32), np.arange(80) % 2, np.ones(80, np.bool_), classes=2)
    made = rules(np.full(50, 0.9, np.float32), np.zeros(50, np.int64), answers, target=0.9)
    assert precision_findings(made, target=0.9, class_names=("cat", "dog")) == (
        "nothing is accepted as dog: no image of the pool has such a prediction",
    )


def test_all_classes_are_one_group_where_that_is_asked_for() -> None:
    answers = held(np.full(100, 0.9, np.float32), np.repeat([0, 1], 50), np.ones(100, np.bool_), classes=2)
    (made,) = rules(np.full(9, 0.9, np.float32), np.arange(9) % 2, answers, target=0.9, per_class=False)
    assert (made.classes, made.held_out, made.reached.images) == ((0, 1), 100, 100)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12))
def test_groups_hold_each_class_once_and_only_the_whole_may_be_too_small(predictions: list[int]) -> None:
    counts = np.array(predictions)
    groups = groups_of(counts, fewest=29)
    assert sorted(index for group in groups for index in group) == list(range(len(predictions)))
    if len(groups) > 1:
        assert all(counts[list(group)].sum() >= 29 for group in groups)


Teacher = Callable[[np.random.Generator, int], tuple[Floats, Mask]]
MISCALIBRATED = {"calibrated": 1.0, "overconfident": 0.3, "underconfident": 2.5}


def teacher(rng: np.random.Generator, power: float) -> Teacher:
    """A teacher of random quality whose answers are right with a chance p, and who says p ** power."""
    a, b = rng.choice([8.0, 4.0, 3.0, 2.0]), rng.choice([0.5, 1.0])

    def answer(generator: np.random.Generator, images: int) -> tuple[Floats, Mask]:
        chance = generator.beta(a, b, images)
        return (chance**power).astype(np.float32), generator.random(images) < chance

    return answer


def naive_cutoff(pool: Floats, confidence: Floats, right: Mask, target: float) -> float:
    """The lowest candidate whose measured precision, as it is, reaches the target."""
    passed = [
        cutoff
        for cutoff in candidate_cutoffs(pool).tolist()
        if (confidence >= cutoff).any() and right[confidence >= cutoff].mean() >= target
    ]
    return min(passed, default=math.inf)


@pytest.mark.parametrize("power", MISCALIBRATED.values(), ids=MISCALIBRATED.keys())
@pytest.mark.parametrize("target", [0.9, 0.95])
def test_the_realised_precision_keeps_the_promise_where_the_naive_rule_breaks_it(power: float, target: float) -> None:
    rng = np.random.default_rng([int(100 * target), int(10 * power)])
    runs, kept, near, naive_kept, naive_near, covered = 200, 0, 0, 0, 0, 0.0
    for _ in range(runs):
        answer = teacher(rng, power)
        confidence, right = answer(rng, 300)
        pool, truth = answer(rng, 4000)
        ours = pool >= lowest_cutoff(pool, confidence, right, target=target).cutoff
        naive = pool >= naive_cutoff(pool, confidence, right, target)
        precision, theirs = (truth[each].mean() if each.any() else 1.0 for each in (ours, naive))
        kept, near = kept + (precision >= target), near + (precision >= target - 0.02)
        naive_kept, naive_near = naive_kept + (theirs >= target), naive_near + (theirs >= target - 0.02)
        covered += ours.mean() / runs
    assert near >= 0.9 * runs
    assert kept >= 0.95 * runs
    assert naive_kept <= 0.65 * runs
    assert runs - naive_near >= 5 * max(1, runs - near)
    assert covered > (0.4 if target == 0.9 else 0.15)


def test_rules_of_classes_of_different_worth_keep_the_promise_too() -> None:
    rng = np.random.default_rng(7)
    powers, worth, runs = np.array([1.0, 0.3, 2.5]), np.array([8.0, 3.0, 1.5]), 200
    groups, missed, near, covered = 0, 0, 0, 0.0
    for _ in range(runs):
        predicted = rng.choice(3, 3300, p=[0.6, 0.3, 0.1])
        chance = rng.beta(worth[predicted], 0.5)
        confidence = (0.5 + 0.5 * chance ** powers[predicted]).astype(np.float32)
        right = rng.random(3300) < chance
        answers = held(confidence[:300], predicted[:300], right[:300], classes=3)
        made = rules(confidence[300:], predicted[300:], answers, target=0.9)
        accepted = confidence[300:] >= rule_cutoffs(made, classes=3)[predicted[300:]]
        near += not accepted.any() or right[300:][accepted].mean() >= 0.88
        covered += accepted.mean() / runs
        for rule in made:
            ours = accepted & np.isin(predicted[300:], rule.classes)
            groups += 1
            missed += bool(ours.any() and right[300:][ours].mean() < 0.9)
    assert missed <= 0.05 * groups
    assert near >= 0.95 * runs
    assert covered > 0.4
